"""Groups as ONNX Runtime really fuses them: regions of an optimised graph, mapped to operators.

    model      MatMul -> Add -> Add -> LayerNormalization
    optimised  Gemm             -> SkipLayerNormalization
    regions    {MatMul, Add}       {Add, LayerNormalization}

A region is a smallest set of kernels whose outside tensors are all known tensors of the model in
known forms; its operators are those between its inputs and its outputs. The regions of one graph
partition the model's operators.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import numpy as np

from planner.fuse.forms import Forms, form_change
from planner.fuse.layout import Node
from planner.ir.graph import Graph, Op
from planner.ir.problem import State


@dataclass(frozen=True, slots=True)
class Region:
    """A convex group of operators with the kernels that compute it."""

    ops: tuple[str, ...]
    """Operator names in topological order."""
    kernels: tuple[int, ...]
    """Indices of kernels; empty where everything was folded away."""
    needs: tuple[State, ...]
    makes: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class FormChange:
    """A kernel that only changes the form of a tensor."""

    kernel: int
    source: State
    target: State


@dataclass(frozen=True, slots=True)
class Partition:
    """All of a graph: its regions and the conversions between them."""

    regions: tuple[Region, ...]
    changes: tuple[FormChange, ...]


class _Sets:
    """Union-find over integers."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        root = item
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[item] != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, a: int, b: int) -> None:
        self._parent[self.find(a)] = self.find(b)


def partition(
    graph: Graph,
    kernels: Sequence[Node],
    forms: Forms,
    captured: Sequence[tuple[str, ...]],
    constants: frozenset[str],
) -> Partition:
    """Regions of an optimised graph.

    Args:
        kernels: nodes of the optimised graph in a topological order.
        captured: for each kernel, tensors its subgraphs read from outside.
        constants: names of the optimised graph's constants.
    """
    changes = _form_changes(kernels, forms, constants)
    changing = {change.kernel for change in changes}
    reads = [
        [n for n in dict.fromkeys((*k.inputs, *c)) if n and n not in constants]
        for k, c in zip(kernels, captured, strict=True)
    ]
    sets = _Sets(len(kernels))
    _join_through_unknown(kernels, reads, forms, changing, sets)
    boundary = _boundary(kernels, reads, forms)
    assigned = _assign_ops(graph, kernels, reads, forms, boundary, changing, sets)
    while _join_cycles(graph, assigned, sets) or _join_kernel_cycles(kernels, reads, sets):
        pass
    inner = {index for index in changing if _is_joined(index, len(kernels), sets)}
    changing -= inner
    outer = tuple(change for change in changes if change.kernel in changing)
    return Partition(_collect(graph, kernels, reads, forms, changing, sets, assigned), outer)


def _form_changes(
    kernels: Sequence[Node], forms: Forms, constants: frozenset[str]
) -> tuple[FormChange, ...]:
    """Conversions of what flows. Weights stored in another form are unpacked by an operator of the
    model like any other: nobody could bring them into the form they are stored in."""
    found = []
    for index, kernel in enumerate(kernels):
        if kernel.inputs and kernel.inputs[0] in constants:
            continue
        change = form_change(kernel, forms)
        if change is not None:
            found.append(FormChange(index, *change))
    return tuple(found)


def _join_through_unknown(
    kernels: Sequence[Node],
    reads: Sequence[Sequence[str]],
    forms: Forms,
    changing: set[int],
    sets: _Sets,
) -> None:
    maker = {name: i for i, kernel in enumerate(kernels) for name in kernel.outputs if name}
    for index in range(len(kernels)):
        if index in changing:
            continue
        for name in reads[index]:
            made_by = maker.get(name)
            if name not in forms and made_by is not None and made_by not in changing:
                sets.join(index, made_by)


def _boundary(kernels: Sequence[Node], reads: Sequence[Sequence[str]], forms: Forms) -> set[str]:
    """Model tensors that exist, in whatever form, in the optimised graph."""
    names = {name for kernel in kernels for name in kernel.outputs}
    names.update(name for read in reads for name in read)
    return {forms[name].tensor for name in names if name in forms}


def _assign_ops(
    graph: Graph,
    kernels: Sequence[Node],
    reads: Sequence[Sequence[str]],
    forms: Forms,
    boundary: set[str],
    changing: set[int],
    sets: _Sets,
) -> dict[str, int]:
    """Operator -> a kernel of its region.

    An operator that several kernels absorb (a Not that every Where behind it swallows) belongs to
    the first of them: joining their regions would tie together what runs layers apart.
    """
    producer = graph.producer()
    assigned: dict[str, int] = {}
    for index, kernel in enumerate(kernels):
        if index in changing:
            continue
        inside = {forms[n].tensor for n in reads[index] if n in forms}
        for name in kernel.outputs:
            if name not in forms:
                continue
            for op in _slice(forms[name].tensor, producer, boundary, inside):
                assigned.setdefault(op, index)
    _adopt_orphans(graph, assigned)
    return assigned


def _slice(
    output: str, producer: Mapping[str, Op], boundary: set[str], inside: set[str]
) -> list[str]:
    """Operators from `output` (of `boundary` itself) backwards, stopping at other tensors of
    `boundary` or `inside`."""
    found: dict[str, None] = {}
    queue = deque([output])
    while queue:
        op = producer.get(queue.popleft())
        if op is None or op.name in found:
            continue
        found[op.name] = None
        wanted = (*op.inputs, *op.captured)
        queue.extend(n for n in wanted if n and n not in boundary and n not in inside)
    return list(found)


def _adopt_orphans(graph: Graph, assigned: dict[str, int]) -> None:
    """Operators that no kernel computes were folded away: their consumer's region takes them.

    Those without any consumer that is computed go to their producer's, backwards first so that
    whole folded chains follow.
    """
    consumers = graph.consumers()
    producer = graph.producer()
    for op in reversed(graph.ops):
        if op.name in assigned:
            continue
        users = [u.name for out in op.outputs for u in consumers.get(out, ())]
        home = next((assigned[name] for name in users if name in assigned), None)
        if home is not None:
            assigned[op.name] = home
    for op in graph.ops:
        if op.name in assigned:
            continue
        makers = [producer[name].name for name in op.inputs if name in producer]
        home = next((assigned[name] for name in makers if name in assigned), None)
        if home is not None:
            assigned[op.name] = home


def _is_joined(index: int, count: int, sets: _Sets) -> bool:
    root = sets.find(index)
    return any(sets.find(other) == root for other in range(count) if other != index)


def _join_cycles(graph: Graph, assigned: Mapping[str, int], sets: _Sets) -> bool:
    """Regions that need each other become one, so that every region is convex."""
    producer = graph.producer()
    edges: list[tuple[int, int]] = []
    for op in graph.ops:
        if op.name not in assigned:
            continue
        home = sets.find(assigned[op.name])
        makers = (producer[n].name for n in (*op.inputs, *op.captured) if n in producer)
        sources = {sets.find(assigned[name]) for name in makers if name in assigned}
        edges.extend((source, home) for source in sources if source != home)
    return _join_components(edges, sets)


def _join_kernel_cycles(
    kernels: Sequence[Node], reads: Sequence[Sequence[str]], sets: _Sets
) -> bool:
    """A conversion between two kernels of one region is part of it: nobody else can pay for it."""
    maker = {name: i for i, kernel in enumerate(kernels) for name in kernel.outputs if name}
    edges: list[tuple[int, int]] = []
    for index, names in enumerate(reads):
        home = sets.find(index)
        sources = {sets.find(maker[name]) for name in names if name in maker}
        edges.extend((source, home) for source in sources if source != home)
    return _join_components(edges, sets)


def _has_cycle(edges: Sequence[tuple[int, int]]) -> bool:
    makers: dict[int, set[int]] = {}
    for source, target in edges:
        makers.setdefault(target, set()).add(source)
    try:
        TopologicalSorter(makers).prepare()
    except CycleError:
        return True
    return False


def _join_components(edges: Sequence[tuple[int, int]], sets: _Sets) -> bool:
    """Joins what lies on a cycle; whether anything did."""
    if not _has_cycle(edges):
        return False
    # 15 MB and a quarter of a second, which few models need.
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    sources, targets = np.array(edges).T
    count = int(max(sources.max(), targets.max())) + 1
    matrix = csr_matrix((np.ones(len(edges)), (sources, targets)), shape=(count, count))
    components, labels = connected_components(matrix, directed=True, connection="strong")
    first: dict[int, int] = {}
    for index, label in enumerate(labels.tolist()):
        sets.join(index, first.setdefault(label, index))
    return int(components) < count


def _collect(
    graph: Graph,
    kernels: Sequence[Node],
    reads: Sequence[Sequence[str]],
    forms: Forms,
    changing: set[int],
    sets: _Sets,
    assigned: Mapping[str, int],
) -> tuple[Region, ...]:
    ops: dict[int, list[str]] = {}
    for op in graph.ops:
        root = sets.find(assigned[op.name]) if op.name in assigned else -1
        ops.setdefault(root, []).append(op.name)
    members: dict[int, list[int]] = {}
    for index in range(len(kernels)):
        if index not in changing:
            members.setdefault(sets.find(index), []).append(index)
    _attach_bare(kernels, reads, members, ops, sets)
    found = [
        _region(names, members.get(root, []), kernels, reads, forms)
        for root, names in ops.items()
        if root != -1
    ]
    found += [Region((name,), (), (), ()) for name in ops.get(-1, [])]
    return tuple(found)


def _attach_bare(
    kernels: Sequence[Node],
    reads: Sequence[Sequence[str]],
    members: dict[int, list[int]],
    ops: Mapping[int, list[str]],
    sets: _Sets,
) -> None:
    """Kernels that map to no operator (helpers ONNX Runtime adds) join a region that they feed."""
    reader = {name: index for index, names in enumerate(reads) for name in names}
    for root in [root for root in members if root not in ops]:
        indices = members.pop(root)
        fed = [reader[n] for index in indices for n in kernels[index].outputs if n in reader]
        homes = [sets.find(index) for index in fed if sets.find(index) in ops]
        home = next(iter(homes or ops), None)
        if home is not None:
            members.setdefault(home, []).extend(indices)


def _region(
    names: Sequence[str],
    indices: Sequence[int],
    kernels: Sequence[Node],
    reads: Sequence[Sequence[str]],
    forms: Forms,
) -> Region:
    own = {name for index in indices for name in kernels[index].outputs if name}
    needs = dict.fromkeys(
        forms[name]
        for index in indices
        for name in reads[index]
        if name not in own and name in forms
    )
    makes = dict.fromkeys(
        forms[name] for index in indices for name in kernels[index].outputs if name in forms
    )
    return Region(tuple(names), tuple(sorted(indices)), tuple(needs), tuple(makes))
