"""Runs of operators whose weights come and go together: small enough that two fit beside the rest.

Cut in the graph's own order, so that any run of them can stand in one part, and where few bytes
cross: what passes between two parts goes through the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

from planner.ir.graph import Graph, Op
from planner.place.shares import crossing_bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive operators."""

    ops: tuple[str, ...]
    weight_size_bytes: int
    """All constants."""
    fetched_size_bytes: int
    """Of them, what comes with every run where they stream."""
    table_size_bytes: int = 0
    """Of them, tables of which rows are looked up: read where they lie where they stream."""

    @property
    def kept_size_bytes(self) -> int:
        """What stays where they stream: constants too small to be worth it."""
        return self.weight_size_bytes - self.fetched_size_bytes - self.table_size_bytes

    @property
    def name(self) -> str:
        """Its first operator's."""
        return self.ops[0]


def chunks(
    graph: Graph,
    fetched: Mapping[str, int],
    most_bytes: int,
    tables: Collection[str] = (),
    also: Collection[int] = (),
) -> tuple[Chunk, ...]:
    """Consecutive runs of operators with about `most_bytes` of weights to fetch.

    Args:
        fetched: constant -> bytes that come with each run.
        most_bytes: what a run fetches at most, unless one operator needs more.
        tables: constants of which rows are read where they lie.
        also: places of operators that a run begins with in any case.
    """
    crossing = crossing_bytes(graph)
    ends: list[int] = []
    known: set[str] = set()
    last = -1
    for place, op in enumerate(graph.ops):
        own = {name for name in _constants(op, graph) if name in fetched}
        if not own:
            continue
        if known and sum(fetched[name] for name in known | own) > most_bytes:
            ends.append(min(range(last + 1, place + 1), key=lambda p: (crossing[p], p)))
            known = set()
        known |= own
        last = place
    bounds = sorted({0, *ends, *also, len(graph.ops)})
    return tuple(
        described(graph, graph.ops[a:b], fetched, tables) for a, b in pairwise(bounds) if a < b
    )


def described(
    graph: Graph, ops: tuple[Op, ...], fetched: Mapping[str, int], tables: Collection[str]
) -> Chunk:
    """A run of operators with the bytes of its constants."""
    names = dict.fromkeys(name for op in ops for name in _constants(op, graph))
    sizes = {name: graph.tensors[name].size_bytes for name in names}
    return Chunk(
        ops=tuple(op.name for op in ops),
        weight_size_bytes=sum(sizes.values()),
        fetched_size_bytes=sum(fetched.get(name, 0) for name in names),
        table_size_bytes=sum(size for name, size in sizes.items() if name in tables),
    )


def _constants(op: Op, graph: Graph) -> list[str]:
    names = (name for name in (*op.inputs, *op.captured) if name)
    return [name for name in names if graph.tensors[name].is_constant]
