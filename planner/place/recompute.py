"""Activations that live long and may be made again where they are read late.

A tensor that is read early and, much later, once more (a skip connection) need not be kept: the
operators that make it run again, on tensors that are there anyway. Only cheap ways back are
offered: no weights of any size, nothing drawn at random, few operators.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from planner.graph.analysis import reads
from planner.graph.draws import DRAWING
from planner.ir.graph import Graph, Op, Tensor
from planner.spec.streaming import Recomputed

LEAST_BYTES = 2**20
"""Smaller tensors are not worth a part of their own."""
_SMALL_CONSTANT_BYTES = 64 * 1024
_MOST_OPS = 12
_MOST = 8
"""Copies that are offered."""


@dataclass(frozen=True, slots=True)
class Again:
    """One tensor that may be made again."""

    recorded: Recomputed
    after: int
    """Place of the operator that last reads the first one (or makes it)."""
    before: int
    """Place of the first operator that reads the copy."""
    last: int
    """Place of the last one."""
    size_bytes: int
    """Of the tensor."""
    scratch_size_bytes: int
    """Of what else is made on the way."""


def candidates(graph: Graph, sizes: Mapping[str, int], least: int = LEAST_BYTES) -> list[Again]:
    """What may be made again, largest savings first; no way back needs what another drops.

    Args:
        sizes: bytes of tensors, of the workload shape that needs most.
    """
    search = _Search(graph, sizes)
    found = [again for again in map(search.again, search.large(least)) if again is not None]
    found.sort(key=lambda each: -each.size_bytes * (each.before - each.after))
    chosen: list[Again] = []
    dropped: set[str] = set()
    needed: set[str] = set()
    for each in found:
        sources = search.sources(each)
        name = each.recorded.tensor
        if len(chosen) < _MOST and name not in needed and not sources & dropped:
            chosen.append(each)
            dropped.add(name)
            needed |= sources
    return chosen


class _Search:
    def __init__(self, graph: Graph, sizes: Mapping[str, int]) -> None:
        self.graph, self.sizes = graph, sizes
        self.maker = {n: p for p, op in enumerate(graph.ops) for n in op.outputs if n}
        self.uses: dict[str, list[int]] = {}
        for place, op in enumerate(graph.ops):
            for name in dict.fromkeys(reads(op)):
                self.uses.setdefault(name, []).append(place)
        self.captured = {name for op in graph.ops for name in op.captured}

    def large(self, least: int) -> Iterator[str]:
        """Tensors worth it, but results of the model and what bodies capture."""
        skipped = self.captured | set(self.graph.outputs)
        for name in self.maker:
            if self.sizes.get(name, 0) >= least and name not in skipped and name in self.uses:
                yield name

    def again(self, name: str) -> Again | None:
        """Across its longest pause; None where there is none, or no cheap way back."""
        points = [self.maker[name], *self.uses[name]]
        pauses = [(b - a, a, b) for a, b in pairwise(points)]
        pause, after, before = max(pauses)
        chain = self._chain(name, before) if pause > 1 else None
        if chain is None:
            return None
        ops = self.graph.ops
        made = {n for place in chain for n in ops[place].outputs if n} - {name}
        readers = tuple(ops[place].name for place in self.uses[name] if place >= before)
        recorded = Recomputed(
            tensor=name, ops=tuple(ops[place].name for place in chain), readers=readers
        )
        scratch = sum(self.sizes.get(n, 0) for n in made)
        return Again(recorded, after, before, points[-1], self.sizes[name], scratch)

    def sources(self, each: Again) -> set[str]:
        """Tensors that its way back reads and does not make."""
        own = [op for op in self.graph.ops if op.name in each.recorded.ops]
        made = {name for op in own for name in op.outputs}
        return {name for op in own for name in reads(op)} - made

    def _chain(self, name: str, before: int) -> list[int] | None:
        """Places of the operators that make it from what is there at `before`, in order."""
        found: set[int] = set()
        wanted = [name]
        while wanted:
            place = self.maker[wanted.pop()]
            op = self.graph.ops[place]
            if place in found:
                continue
            found.add(place)
            if len(found) > _MOST_OPS or op.captured or op.op_type in DRAWING:
                return None
            for read in filter(None, op.inputs):
                if self._is_there(read, before):
                    continue
                if read not in self.maker:
                    return None
                wanted.append(read)
        return sorted(found)

    def _is_there(self, name: str, before: int) -> bool:
        tensor = self.graph.tensors[name]
        if tensor.is_constant:
            return tensor.size_bytes < _SMALL_CONSTANT_BYTES
        if name in self.graph.inputs:
            return True
        lasts = name in self.graph.outputs or self.uses[name][-1] >= before
        return lasts and self.maker[name] < before


def copy_name(name: str, tensor: str) -> str:
    """Of an operator, or of what it makes, on the way to a tensor's copy."""
    return f"{name}@again:{tensor}"


def copied(graph: Graph, chosen: Sequence[Recomputed]) -> Graph:
    """The graph with these made again, right before what first reads them late."""
    by_name = {op.name: op for op in graph.ops}
    tensors = dict(graph.tensors)
    ahead: dict[str, list[Op]] = {}
    swapped: dict[str, dict[str, str]] = {}
    for each in chosen:
        own = [by_name[name] for name in each.ops]
        made = {n: copy_name(n, each.tensor) for op in own for n in op.outputs if n}
        for name, copy in made.items():
            tensors[copy] = _renamed(graph.tensors[name], copy)
        ahead.setdefault(each.readers[0], []).extend(
            replace(
                op,
                name=copy_name(op.name, each.tensor),
                inputs=tuple(made.get(n, n) for n in op.inputs),
                outputs=tuple(made.get(n, n) for n in op.outputs),
            )
            for op in own
        )
        for reader in each.readers:
            swapped.setdefault(reader, {})[each.tensor] = made[each.tensor]
    ops: list[Op] = []
    for op in graph.ops:
        names = swapped.get(op.name, {})
        inputs = tuple(names.get(name, name) for name in op.inputs)
        ops += [*ahead.get(op.name, ()), replace(op, inputs=inputs)]
    return Graph(tuple(ops), tensors, graph.inputs, graph.outputs)


def _renamed(tensor: Tensor, name: str) -> Tensor:
    return replace(tensor, name=name)


def fits(graph: Graph, each: Recomputed) -> bool:
    """Whether a rewritten graph still has all that a copy refers to."""
    by_name = {op.name: op for op in graph.ops}
    names: Collection[str] = (*each.ops, *each.readers)
    if not all(name in by_name for name in names):
        return False
    return all(each.tensor in by_name[name].inputs for name in each.readers)
