"""Device profiles for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report.text import facts, safe
from planner.spec.fits import FitFile
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
    for name in ("--target", "devices", "wiring", "host memory", "price"):
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


def details(profile: DeviceProfile, fits: FitFile | None = None) -> RenderableType:
    """Everything a profile says, with its sources, and what was learnt of its kernels."""
    rows = [("memory", profile.memory_size), ("bandwidth", profile.memory_bandwidth)]
    rows += [(f"peak {name}", rate) for name, rate in profile.peak.items()]
    rows += [(f"sustained {name}", rate) for name, rate in profile.sustained.items()]
    rows += [
        (name, quantity)
        for name, quantity in (
            ("memory, reported", profile.reported_memory),
            ("clock", profile.clock),
            ("cache", profile.cache_size),
            ("shared memory per unit", profile.shared_memory_per_unit),
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
    title = Text(f"{profile.name} · {profile.title}", style="bold")
    what = [("kind", profile.kind), ("units", str(profile.units))]
    what += [("architecture", safe(profile.architecture))] if profile.architecture else []
    parts: list[RenderableType] = [title, facts(what), facts(_sourced(rows))]
    return Group(*parts, Text(), _learnt(fits)) if fits else Group(*parts)


def machine(node: NodeProfile) -> RenderableType:
    """Everything a machine's profile says, with its sources."""
    rows = [("host memory", node.host_memory_size), ("host bandwidth", node.host_bandwidth)]
    for domain in node.domains:
        name = f"{domain.devices} on {domain.fabric}"
        rows += [(f"{name}: latency", domain.link.latency)]
        rows += [(f"{name}: bandwidth", domain.link.bandwidth)]
    rows += [("price", node.price)] if node.price is not None else []
    what = facts([("devices", f"{node.devices} x {safe(node.device)}")])
    title = Text(f"{node.name} · {node.title}", style="bold")
    return Group(title, what, facts(_sourced(rows)))


def _sourced(rows: Sequence[tuple[str, Quantity]]) -> list[tuple[str, str]]:
    return [(safe(name), f"{amount(q)}  ({safe(_origin(q))})") for name, q in rows]


def _origin(quantity: Quantity) -> str:
    return ", ".join(filter(None, (quantity.source, quantity.measured_on)))


def _learnt(fits: FitFile) -> Table:
    """What kernels were measured on this very device, and how well unseen ones are predicted."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("kernels", "points", "error on unseen shapes", "source"):
        table.add_column(name, overflow="fold")
    for key, curve in fits.curves.items():
        errors = f"median {curve.median_error:.1%}, p90 {curve.p90_error:.1%}"
        table.add_row(safe(key), str(curve.points), errors, safe(curve.source))
    return table


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
