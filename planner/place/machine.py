"""The machine that plans may use: its devices, what connects them, and where weights may wait."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from planner.cost.predictor import Predictor
from planner.ir.devices import Link, Place, Store
from planner.ir.problem import Latency

DEVICE = "gpu"
_AHEAD = 4
"""Groups before its use at which a weight may start to stream from a neighbour."""
_PROBES_BYTES = (2**16, 2**26)
"""Sizes between which a link's latency and bandwidth are read off its price."""
_LEAST_US = 1e-9
"""Two probes take at least this much apart, so that a link of no price has a bandwidth."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What plans may use."""

    gpus: int
    """At most."""
    per_node: int
    memory_size_bytes: int
    """Of each device, that may be filled."""
    price_per_hour: float
    """Of each device."""
    host_memory_size_bytes: int | None
    """Of each node; None: no source says."""
    offload: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swaps:
    """How weights come from host memory."""

    fetch: Callable[[float], Latency]
    """Of so many bytes into each rank, all ranks at once."""


def places(machine: Machine) -> tuple[Place, ...]:
    """Degrees of sharding inside one machine: powers of two, and all devices of it."""
    most = min(machine.gpus, machine.per_node)
    degrees = {2**n for n in range(most.bit_length()) if 2**n <= most} | {most}
    return tuple(Place(f"{DEVICE}x{degree}", DEVICE, degree) for degree in sorted(degrees))


def links(predictor: Predictor, machine: Machine, devices: int | None = None) -> tuple[Link, ...]:
    """Between stages: the slowest connection that a pipeline over so many devices has.

    Args:
        devices: that stages lie on; all of the machine where not given.
    """
    count = machine.gpus if devices is None else devices
    if count == 1:
        return ()
    return (Link(DEVICE, DEVICE, *_alpha_beta(lambda size: _send_us(predictor, size, count))),)


def _alpha_beta(time_us: Callable[[float], float]) -> tuple[float, float]:
    """Latency (us) and rate (bytes/us) of the line through what two sizes take."""
    small, large = _PROBES_BYTES
    first, second = time_us(small), time_us(large)
    rate = (large - small) / max(second - first, _LEAST_US)
    return max(first - small / rate, 0.0), rate


def _send_us(predictor: Predictor, size_bytes: float, ranks: int) -> float:
    """One message between two devices that may be as far apart as `ranks` are."""
    node = predictor.node
    domain = node.domain(ranks) if node is not None else None
    if node is None or domain is None or domain is node.domain(2):
        return predictor.collective("send_recv", size_bytes, 2).expected_us
    return domain.link.latency.value + size_bytes / (domain.link.bandwidth.value / 1e6)


def swaps(predictor: Predictor, machine: Machine) -> Swaps | None:
    """How weights stream from host memory; None where they may not, or there is no link."""
    if "host" not in machine.offload or "host" not in predictor.device.links:
        return None
    node = predictor.node
    shared = node.host_bandwidth.value / min(machine.gpus, machine.per_node) if node else math.inf
    own = predictor.device.links["host"].bandwidth.value
    slower = max(own / shared, 1.0)

    def fetch(size_bytes: float) -> Latency:
        cost = predictor.transfer("host", "device", size_bytes * slower)
        return Latency(cost.low_us, cost.expected_us, cost.high_us)

    return Swaps(fetch)


def stores(predictor: Predictor, machine: Machine) -> tuple[Store, ...]:
    """A neighbour's memory, where it is allowed, there and connected (C7).

    Host memory is no store: what streams from it is priced with its group (`Swaps`).
    """
    if "peer" not in machine.offload or machine.gpus == 1 or "peer" not in predictor.device.links:
        return ()
    latency_us, rate = _alpha_beta(
        lambda size: predictor.transfer("peer", "device", size).expected_us
    )
    lent = Store(
        "peer",
        latency_us,
        rate,
        ahead=_AHEAD,
        memory_size_bytes=machine.memory_size_bytes,
        extra_devices=1,
        price_per_hour=machine.price_per_hour,
    )
    return (lent,)
