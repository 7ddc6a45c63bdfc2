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
from planner.ir.graph import Graph, Op
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


@dataclass(frozen=True, slots=True)
class Copied:
    """An operator's copy."""

    op: str
    """The operator that it is a copy of."""
    name: str
    names: Mapping[str, str]
    """Tensor that the operator reads or makes -> what its copy does instead; the same if absent."""


@dataclass(frozen=True, slots=True)
class Copies:
    """What a graph, in whatever form it stands, gets in addition."""

    tensors: Sequence[tuple[str, str]]
    """Tensors and their copies."""
    ahead: Mapping[str, Sequence[Copied]]
    """Operator -> what stands right before it."""
    swapped: Mapping[str, Mapping[str, str]]
    """Operator -> tensor that it read -> the copy that it reads."""


def copies_of(chosen: Sequence[Recomputed], outputs: Mapping[str, Sequence[str]]) -> Copies:
    """What making these again takes.

    Args:
        outputs: of each operator, by its name.
    """
    tensors: list[tuple[str, str]] = []
    ahead: dict[str, list[Copied]] = {}
    swapped: dict[str, dict[str, str]] = {}
    for each in chosen:
        names = {n: copy_name(n, each.tensor) for op in each.ops for n in outputs[op] if n}
        tensors += names.items()
        ahead.setdefault(each.readers[0], []).extend(
            Copied(op, copy_name(op, each.tensor), names) for op in each.ops
        )
        for reader in each.readers:
            swapped.setdefault(reader, {})[each.tensor] = names[each.tensor]
    return Copies(tensors, ahead, swapped)


def copied(graph: Graph, chosen: Sequence[Recomputed]) -> Graph:
    """The graph with these made again, right before what first reads them late."""
    by_name = {op.name: op for op in graph.ops}
    copies = copies_of(chosen, {op.name: op.outputs for op in graph.ops})
    tensors = dict(graph.tensors)
    tensors.update({copy: replace(tensors[name], name=copy) for name, copy in copies.tensors})
    ops: list[Op] = []
    for op in graph.ops:
        ops += [_copy(by_name[each.op], each) for each in copies.ahead.get(op.name, ())]
        ops.append(replace(op, inputs=_named(op.inputs, copies.swapped.get(op.name, {}))))
    return Graph(tuple(ops), tensors, graph.inputs, graph.outputs)


def _copy(op: Op, each: Copied) -> Op:
    inputs, outputs = (_named(names, each.names) for names in (op.inputs, op.outputs))
    return replace(op, name=each.name, inputs=inputs, outputs=outputs)


def _named(names: Sequence[str], others: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(others.get(name, name) for name in names)


def fits(graph: Graph, each: Recomputed) -> bool:
    """Whether a rewritten graph still has all that a copy refers to."""
    by_name = {op.name: op for op in graph.ops}
    names: Collection[str] = (*each.ops, *each.readers)
    if not all(name in by_name for name in names):
        return False
    return all(each.tensor in by_name[name].inputs for name in each.readers)
