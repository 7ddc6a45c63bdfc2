"""Devices and machines by name or by file: what ships, and what users measured or describe.

--target h100-sxm-80gb        a profile that ships
--target dgx-h100             a machine that ships: these devices, wired so
--target my-gpu.yaml          a device profile: what `infopt profile` writes
--target my-machine.yaml      a machine; its device ships, or lies beside it as NAME.yaml
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner import resources
from planner.errors import SpecError
from planner.spec.node import NodeProfile, read_node
from planner.spec.problems import nearest
from planner.spec.profile import DeviceProfile, read_profile
from planner.spec.yaml_source import load

_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Described:
    """What a target says."""

    device: DeviceProfile
    machine: NodeProfile | None
    """Where the target is a machine."""


def is_file_name(target: str) -> bool:
    """Whether a target names a file and no profile that ships."""
    return target.endswith(_ENDINGS)


def describe(target: str) -> Described:
    """The device that a target names, and its machine if it names that.

    Raises:
        SpecError: no such file or profile, or not a valid one; says which line.
    """
    if not is_file_name(target):
        return _named(target)
    path = Path(target)
    if not _is_machine(path):
        return Described(read_profile(path), None)
    machine = read_node(path)
    own = path.parent / f"{machine.device}.yaml"
    if own.is_file() and own != path:
        return Described(read_profile(own), machine)
    return Described(_shipped(machine.device, f"{path}: device"), machine)


def names() -> tuple[str, ...]:
    """Of all devices and machines that ship."""
    return tuple(path.stem for path in (*resources.profiles(), *resources.nodes()))


def _named(name: str) -> Described:
    own = next((path for path in resources.nodes() if path.stem == name), None)
    if own is None:
        return Described(_shipped(name, "target.device"), None)
    machine = read_node(own)
    return Described(_shipped(machine.device, f"{own}: device"), machine)


def _is_machine(path: Path) -> bool:
    return not {"node_version", "domains"}.isdisjoint(load(path).data)


def _shipped(name: str, where: str) -> DeviceProfile:
    known = {path.stem: path for path in resources.profiles()}
    if name not in known:
        raise SpecError(
            f"no device is called {name!r}", where=where, fix=nearest(name, tuple(known))
        )
    return read_profile(known[name])
