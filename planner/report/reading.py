"""A model whose weights are absent, for a terminal: what it holds and what it would compute."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from planner.report.text import facts, safe
from planner.spec.reading import Reading
from planner.spec.verdict import DryRun
from planner.units import format_size

MAX_ROWS = 12
"""Rows of a table; `--json` has all."""


def render(found: DryRun, reading: Reading) -> list[RenderableType]:
    """Facts, then operators, work per workload entry, and repeated blocks."""
    kinds = [f"{count:,} {safe(kind)}" for kind, count in reading.op_counts.items()]
    more = f", and {len(kinds) - MAX_ROWS} other kinds" if len(kinds) > MAX_ROWS else ""
    sizes = [f"{name} {format_size(size)}" for name, size in reading.format_bytes.items()]
    rows = [
        ("model", safe(found.model)),
        ("operators", f"{found.ops:,}: {', '.join(kinds[:MAX_ROWS])}{more}"),
        ("parameters", f"{found.parameters:,}"),
        ("weights", f"{reading.weights:,}, read by several operators: {reading.shared_weights:,}"),
        ("bytes", ", ".join(sizes)),
    ]
    parts: list[RenderableType] = [facts(rows), Text(), _work(reading)]
    if reading.blocks:
        parts += [Text(), _blocks(reading)]
    return parts


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _work(reading: Reading) -> Table:
    table = _table("shapes", "GFLOP", "weights read", "activations moved", "alive at once")
    for entry in reading.work:
        unknown = f" + {entry.unknown_ops} unknown" if entry.unknown_ops else ""
        table.add_row(
            safe(entry.name),
            f"{entry.flops / 1e9:,.4g}{unknown}",
            format_size(entry.weight_bytes),
            format_size(entry.activation_bytes),
            format_size(entry.peak_activation_bytes),
        )
    return table


def _blocks(reading: Reading) -> Table:
    table = _table("repeated block", "times", "operators", "parameters")
    for block in reading.blocks[:MAX_ROWS]:
        row = (f"{block.instances}", f"{block.ops}", f"{block.parameters:,}")
        table.add_row(f"from {safe(block.first)}", *row)
    return table
