"""Device profiles for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report.text import facts, safe
from planner.spec.node import NodeProfile
from planner.spec.profile import DeviceProfile, Quantity
from planner.units import format_duration, format_size

_SCALES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


@dataclass(frozen=True, slots=True)
class Local:
    """The device at hand."""

    device: str
    onnxruntime: str


def render(
    local: Local, known: Sequence[DeviceProfile], machines: Sequence[NodeProfile] = ()
) -> RenderableType:
    """This machine, then every shipped profile and every shipped machine in one line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("--target", "device", "memory", "bandwidth", "peak"):
        table.add_column(name, overflow="fold")
    for profile in known:
        best = max(profile.peak.items(), key=lambda item: item[1].value)
        table.add_row(
            safe(profile.name),
            safe(profile.title),
            amount(profile.memory_size),
            amount(profile.memory_bandwidth),
            f"{amount(best[1])} {safe(best[0])}",
        )
    here = facts([("this machine", safe(local.device)), ("ONNX Runtime", safe(local.onnxruntime))])
    if not machines:
        return Group(here, Text(), table)
    return Group(here, Text(), table, Text(), _machines(machines))


def _machines(machines: Sequence[NodeProfile]) -> Table:
    """Machines with several devices: what they hold, how it is wired, what it costs."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("machine", "devices", "wiring", "host memory", "price"):
        table.add_column(name, overflow="fold")
    for node in machines:
        wiring = (f"{d.devices} {d.fabric} {amount(d.link.bandwidth)}" for d in node.domains)
        table.add_row(
            safe(node.name),
            f"{node.devices} x {safe(node.device)}",
            ", ".join(wiring),
            amount(node.host_memory_size),
            amount(node.price) if node.price else "",
        )
    return table


def details(profile: DeviceProfile) -> RenderableType:
    """Everything a profile says, with its sources."""
    rows = [("memory", profile.memory_size), ("bandwidth", profile.memory_bandwidth)]
    rows += [(f"peak {name}", rate) for name, rate in profile.peak.items()]
    rows += [(f"sustained {name}", rate) for name, rate in profile.sustained.items()]
    rows += [
        (name, quantity)
        for name, quantity in (
            ("launch", profile.launch),
            ("barrier", profile.barrier),
            ("power", profile.power),
            ("price", profile.price),
        )
        if quantity is not None
    ]
    rows += profile.ceilings.items()
    for name, link in profile.links.items():
        rows += [(f"{name} latency", link.latency), (f"{name} bandwidth", link.bandwidth)]
    text = [(safe(name), f"{amount(q)}  ({safe(q.source)})") for name, q in rows]
    return Group(Text(f"{profile.name} · {profile.title}", style="bold"), facts(text))


def amount(quantity: Quantity) -> str:
    """A quantity with the prefix people use: `312 Tflop/s`, `1.9 TB/s`."""
    if quantity.unit == "us":
        return format_duration(quantity.value)
    if quantity.unit == "bytes":
        return format_size(quantity.value)
    unit = "B/s" if quantity.unit == "bytes/s" else quantity.unit
    for scale, prefix in _SCALES:
        if quantity.value >= scale and unit not in ("W", "USD/h"):
            return f"{quantity.value / scale:.4g} {prefix}{unit}"
    return f"{quantity.value:.4g} {unit}"
