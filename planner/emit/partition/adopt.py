"""Operators that a plan does not name: casts that formats brought, sizes that planning settled.

Each joins the stage of what it reads, else of its first reader, and is cut as its operand comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from planner.emit.partition.layout import Layout, makes
from planner.emit.partition.stages import StageCut
from planner.ir.graph import Graph, Op
from planner.ops.sharding import Index, Kind


def adopted(
    graph: Graph, cuts: Sequence[StageCut], known: Mapping[str, Sequence[Index]]
) -> tuple[StageCut, ...]:
    """The same stages with every operator of the graph in one of them.

    Args:
        known: operator -> every index that its ranks could share.
    """
    named = {name for cut in cuts for name in cut.ops}
    missing = [op for op in graph.ops if op.name not in named]
    if not missing:
        return tuple(cuts)
    home = _homes(graph, cuts, missing)
    found = []
    for number, cut in enumerate(cuts):
        own = [op for op in missing if home[op.name] == number]
        choices = dict(cut.choices)
        forms = _forms([op for op in graph.ops if op.name in cut.ops], choices)
        for op in own:
            index = _following(op, forms, known.get(op.name, ()), len(cut.ranks))
            if index is not None:
                choices[op.name] = index
            forms.update(_forms([op], choices))
        names = cut.ops | {op.name for op in own}
        found.append(replace(cut, ops=names, choices=choices))
    return tuple(found)


def _homes(graph: Graph, cuts: Sequence[StageCut], missing: Sequence[Op]) -> dict[str, int]:
    """Operator -> its stage."""
    home = {name: number for number, cut in enumerate(cuts) for name in cut.ops}
    made, readers = graph.producer(), graph.consumers()
    for op in missing:
        makers = [made[name].name for name in (*op.inputs, *op.captured) if name in made]
        stages = [home[name] for name in makers if name in home]
        if stages:
            home[op.name] = max(stages)
    for op in reversed(missing):
        if op.name not in home:
            after = [home[r.name] for name in op.outputs for r in readers.get(name, ())]
            home[op.name] = min(after, default=0)
    return home


def _forms(ops: Sequence[Op], choices: Mapping[str, Index]) -> dict[str, Layout]:
    """Tensor -> the layout that it is made in."""
    return {
        name: layout
        for op in ops
        for name, layout in zip(op.outputs, makes(op, choices.get(op.name)), strict=True)
        if name
    }


def _following(
    op: Op, forms: Mapping[str, Layout], options: Sequence[Index], ranks: int
) -> Index | None:
    """The index along which an operand comes cut already."""
    there = {
        (slot, forms[name].axis)
        for slot, name in enumerate(op.inputs)
        if name in forms and forms[name].kind == "cut"
    }
    return next(
        (
            index
            for index in options
            if index.kind is Kind.PARALLEL
            and index.extent % ranks == 0
            and any((axis.slot, axis.axis) in there for axis in index.inputs)
        ),
        None,
    )
