"""What `infopt plan --dry-run` found, for a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report import reading
from planner.report.text import facts, safe
from planner.spec.verdict import DryRun
from planner.units import format_size

MAX_KERNELS = 40


def render(found: DryRun) -> RenderableType:
    """The model as it was understood, and what would be measured."""
    shapes = [
        (f"input {name}" if len(found.workload) == 1 else f"{entry.name}: {name}", shape)
        for entry in found.workload
        for name, shape in entry.shapes.items()
    ]
    if found.reading is not None:
        return Group(*reading.render(found, found.reading), *_warnings(found))
    variants = sum(len(kernel.variants) for kernel in found.pending)
    rows = [
        ("model", safe(found.model)),
        ("operators", f"{found.ops:,}"),
        ("parameters", f"{found.parameters:,} ({format_size(found.weights_size_bytes)})"),
        *((safe(name), "x".join(map(str, shape)) or "scalar") for name, shape in shapes),
        ("in the store", f"{found.measured:,} measurements"),
        ("to measure", f"kernels: {len(found.pending):,}, variants of them: {variants:,}"),
    ]
    parts: list[RenderableType] = [facts(rows)]
    if found.pending:
        parts += [Text(), _kernels(found)]
    if len(found.pending) > MAX_KERNELS:
        parts.append(Text(f"and {len(found.pending) - MAX_KERNELS} more (--json lists all)"))
    return Group(*parts, *_warnings(found))


def _warnings(found: DryRun) -> list[RenderableType]:
    return [Text(f"! {warning}", style="yellow") for warning in found.warnings]


def _kernels(found: DryRun) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("kernel", "operators", "variants"):
        table.add_column(name, overflow="fold")
    for kernel in found.pending[:MAX_KERNELS]:
        table.add_row(safe(kernel.kernel), str(kernel.ops), safe(", ".join(kernel.variants)))
    return table
