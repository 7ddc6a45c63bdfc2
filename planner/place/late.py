"""Tensors that late groups may make again: large, long not read, with a cheap way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from planner.graph.analysis import reads
from planner.graph.draws import DRAWING
from planner.graph.skeleton import Skeleton
from planner.ir.graph import Op, Tensor
from planner.place.groups import Group

LEAST_SHARE = 0.005
"""Of a device's memory: smaller tensors decide nothing."""
MOST = 8
"""Tensors that are offered."""
MOST_READERS = 4
"""Late groups of one: each makes its own copy."""
MOST_OPS = 24
"""On the way back."""
WEIGHTS_SHARE = 0.25
"""Of a tensor's bytes: the most that weights on its way back may take."""


@dataclass(frozen=True, slots=True)
class Late:
    """A tensor that late groups may make again."""

    tensor: str
    name: str
    """Of what late groups read."""
    home: int
    """The group that makes it."""
    readers: tuple[int, ...]
    """The late groups."""
    chain: tuple[Op, ...]
    """Operators that make it, in order."""
    size_bytes: int
    """Of the workload entry that needs most."""


def late_tensors(
    skeleton: Skeleton, groups: Sequence[Group], least_bytes: float, narrow: bool
) -> tuple[Late, ...]:
    """What may be made again, largest first; no way back needs what another drops.

    Args:
        narrow: floats of 32 bits are kept in 16.
    """
    search = _Search(skeleton, groups, least_bytes, narrow)
    found = [late for late in map(search.late, search.names()) if late is not None]
    found.sort(key=lambda each: (-each.size_bytes, each.tensor))
    chosen: list[Late] = []
    dropped: set[str] = set()
    needed: set[str] = set()
    for each in found:
        sources = _sources(each.chain)
        if len(chosen) < MOST and each.tensor not in needed and not sources & dropped:
            chosen.append(each)
            dropped.add(each.tensor)
            needed |= sources
    return tuple(chosen)


def _sources(chain: Sequence[Op]) -> set[str]:
    made = {name for op in chain for name in op.outputs}
    return {name for op in chain for name in reads(op)} - made


class _Search:
    def __init__(
        self, skeleton: Skeleton, groups: Sequence[Group], least_bytes: float, narrow: bool
    ) -> None:
        self.graph, self._graphs = skeleton.graph, tuple(skeleton.graphs.values())
        self._narrow, self._least = narrow, least_bytes
        self._maker = {name: op for op in self.graph.ops for name in op.outputs if name}
        self._place = {op.name: n for n, op in enumerate(self.graph.ops)}
        self._home = {op.name: n for n, group in enumerate(groups) for op in group.ops}
        self._readers: dict[str, list[int]] = {}
        for number, group in enumerate(groups):
            for name in group.inputs:
                self._readers.setdefault(name, []).append(number)
        self._outputs = set(self.graph.outputs)
        self._captured = {name for op in self.graph.ops for name in op.captured}

    def names(self) -> list[str]:
        """Large tensors between groups, but results of the model and what bodies capture."""
        skipped = self._outputs | self._captured
        return [
            name
            for name in self._readers
            if name in self._maker and name not in skipped and self._size(name) >= self._least
        ]

    def _size(self, name: str) -> int:
        sizes = (graph.tensors[name] for graph in self._graphs)
        return max(_kept_bytes(tensor, self._narrow) for tensor in sizes)

    def late(self, name: str) -> Late | None:
        """A tensor across its longest pause; None where there is none, or no way back."""
        home = self._home[self._maker[name].name]
        points = [home, *self._readers[name]]
        pause, after = max((b - a, -n) for n, (a, b) in enumerate(pairwise(points)))
        late = tuple(points[1 - after :])
        if pause < 2 or len(late) > MOST_READERS:
            return None
        chain = self._chain(name, late[-1])
        if chain is None:
            return None
        return Late(name, f"{name}@late", home, late, chain, self._size(name))

    def _chain(self, name: str, until: int) -> tuple[Op, ...] | None:
        """Operators that make it from what lives until the last late group, in order."""
        found: dict[str, Op] = {}
        weights: dict[str, int] = {}
        wanted = [name]
        most = WEIGHTS_SHARE * self._size(name)
        while wanted:
            op = self._maker.get(wanted.pop())
            if op is None or op.captured or op.op_type in DRAWING:
                return None
            if op.name in found:
                continue
            found[op.name] = op
            constant = [n for n in op.inputs if n and self.graph.tensors[n].is_constant]
            weights.update({n: self.graph.tensors[n].size_bytes for n in constant})
            if len(found) > MOST_OPS or sum(weights.values()) > most:
                return None
            wanted += [
                n for n in op.inputs if n and n not in constant and not self._is_there(n, until)
            ]
        return tuple(sorted(found.values(), key=lambda op: self._place[op.name]))

    def _is_there(self, name: str, until: int) -> bool:
        """Whether something between groups lives so long anyway."""
        if name in self.graph.inputs:
            return True
        return name in self._outputs or max(self._readers.get(name, [-1])) >= until


def _kept_bytes(tensor: Tensor, narrow: bool) -> int:
    return tensor.size_bytes // 2 if narrow and tensor.dtype == "float32" else tensor.size_bytes
