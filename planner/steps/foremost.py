"""Which operator of a group its time is told beside: the one that does most of the work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from planner.ir.graph import Graph
from planner.ops.work import work_of


def foremost(graph: Graph, groups: Iterable[Sequence[str]]) -> set[str]:
    """One operator a group: of the most arithmetic, or else the most bytes; the first of equals."""
    known = {op.name: op for op in graph.ops}

    def amount(name: str) -> tuple[int, int]:
        work = work_of(known[name], graph.tensors)
        return work.flops, work.size_bytes

    return {max(group, key=amount) if len(group) > 1 else group[0] for group in groups}
