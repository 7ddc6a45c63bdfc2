"""The machine a plan is made for: device profile, node, how many devices, what they may hold."""

from __future__ import annotations

from dataclasses import dataclass

from planner import resources
from planner.cost.predictor import Predictor
from planner.errors import EnvironmentMismatchError, UsageError
from planner.place.machine import Machine
from planner.spec.constraints import Constraints
from planner.spec.devices import describe
from planner.spec.node import NodeProfile, read_node
from planner.spec.profile import DeviceProfile

_UNPRICED = 1.0
"""Price of a device that no source prices: then a price counts devices."""
_NO_CONTEXT_SHARE = 0.02
"""Of a device's memory: kept free, for fragmentation of the allocator."""


@dataclass(frozen=True, slots=True)
class Away:
    """Where the model will run."""

    device: DeviceProfile
    node: NodeProfile | None
    predictor: Predictor
    machine: Machine
    is_priced: bool
    price_source: str


def find_target(constraints: Constraints) -> Away:
    """The target of a request.

    Raises:
        UsageError: more devices than any machine of that device can connect.
        SpecError: a file of a device or a machine that is not valid.
        EnvironmentMismatchError: the profile is of no GPU.
    """
    target = constraints.target
    described = describe(target.device)
    device = described.device
    if device.kind == "rocm":
        raise EnvironmentMismatchError(
            f"{device.title} is priced, but nothing is planned for AMD's GPUs",
            where="target.device",
            fix="name an NVIDIA GPU: infopt devices",
        )
    if device.kind != "cuda":
        raise EnvironmentMismatchError(
            f"{device.title} is no GPU, and only this machine's CPU can be planned for",
            where="target.device",
            fix="--target cpu",
        )
    gpus = target.gpus.maximum if target.gpus is not None else 1
    node = described.machine or _node(device, gpus)
    _refuse_degree(device, node, gpus)
    capacity = int(device.memory_size.value * (1 - _NO_CONTEXT_SHARE))
    if target.memory_size_bytes is not None:
        capacity = min(capacity, target.memory_size_bytes)
    price, source = _price(device, node, target.price_per_hour)
    machine = Machine(
        gpus=gpus,
        per_node=node.devices if node is not None else 1,
        memory_size_bytes=capacity,
        price_per_hour=price if price is not None else _UNPRICED,
        host_memory_size_bytes=int(node.host_memory_size.value) if node is not None else None,
        offload=("host",) if target.offload is None else target.offload,
    )
    predictor = Predictor(device, node)
    return Away(device, node, predictor, machine, price is not None, source)


def _node(device: DeviceProfile, gpus: int) -> NodeProfile | None:
    """The machine with this device that holds them with the least to spare; else the largest."""
    nodes = [node for path in resources.nodes() if (node := read_node(path)).device == device.name]
    if not nodes:
        return None
    enough = [node for node in nodes if node.devices >= gpus]
    if enough:
        return min(enough, key=lambda node: (node.devices, node.name))
    return max(nodes, key=lambda node: (_reach(node), node.devices, node.name))


def _reach(node: NodeProfile) -> int:
    return max((domain.devices for domain in node.domains), default=node.devices)


def _refuse_degree(device: DeviceProfile, node: NodeProfile | None, gpus: int) -> None:
    if gpus == 1:
        return
    if node is None:
        raise UsageError(
            f"no machine profile connects several {device.title}",
            where="target.gpus",
            fix="plan for one GPU, or give --target the file of a machine with this device",
        )
    if gpus > _reach(node):
        raise UsageError(
            f"{gpus} GPUs are asked for; {node.title} connects {_reach(node)} at most",
            where="target.gpus",
            fix=f"--gpus 1..{_reach(node)}, or another --target",
        )


def _price(
    device: DeviceProfile, node: NodeProfile | None, given: float | None
) -> tuple[float | None, str]:
    """Of one device, by the hour."""
    if given is not None:
        return given, "given by the user"
    if device.price is not None:
        return device.price.value, device.price.source
    if node is not None and node.price is not None:
        return node.price.value / node.devices, f"{node.price.source}, its share per device"
    return None, "no source prices this device: plans count devices"
