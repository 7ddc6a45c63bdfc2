"""Groups of operators that are decided together: levels between products with weights.

The level of an operator is the number of weights on the heaviest path to it. Operators of one level
form a convex set, and levels follow each other in a chain: whatever the graph, a pipeline can be
cut between any two. Bias and activation stay with the product before them. Where there are more
levels than the solver should see, neighbours are merged, repeated blocks alike, and the seams
fall where the fewest bytes cross.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.graph.skeleton import Skeleton
from planner.ir.graph import Graph, Op
from planner.ops.elementwise import FAMILY as ELEMENTWISE
from planner.ops.work import VIEWS

MOST_GROUPS = 256
"""Groups that a problem has at most, where blocks repeat; a chain of thousands is no better cut."""
LEAST_SHARE = 1e-5
"""Of all weights: a constant below this share is no weight that decides anything."""
WEIGHTED = frozenset(
    ("MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "com.microsoft::FusedMatMul")
)
"""Operators that multiply with a weight, which may be stored in another format."""


@dataclass(frozen=True, slots=True)
class Group:
    """Operators decided together."""

    name: str
    """Of its first weighted operator, else of its first."""
    ops: tuple[Op, ...]
    weighted: tuple[str, ...]
    """Operators whose weights take a format."""
    inputs: tuple[str, ...]
    """Tensors from other groups and from outside, constants apart."""
    outputs: tuple[str, ...]
    """Tensors that other groups read, and results of the model."""


def group(skeleton: Skeleton, most: int = MOST_GROUPS) -> tuple[Group, ...]:
    """The groups, in order."""
    graph = skeleton.graph
    weighted = find_weighted(graph)
    level = _levels(graph, weighted)
    seams = _seams(skeleton, level, most)
    number = np.searchsorted(seams, np.array([level[op.name] for op in graph.ops]), side="right")
    members: dict[int, list[Op]] = {}
    for op, place in zip(graph.ops, number.tolist(), strict=True):
        members.setdefault(place, []).append(op)
    return _described(graph, [members[place] for place in sorted(members)], weighted)


def find_weighted(graph: Graph) -> frozenset[str]:
    """Operators that multiply with a weight large enough to matter."""
    least = LEAST_SHARE * graph.weights_size_bytes
    return frozenset(op.name for op in graph.ops if weight_of(op, graph, least) is not None)


def weight_of(op: Op, graph: Graph, least_bytes: float = 0.0) -> str | None:
    """The constant matrix that an operator multiplies with."""
    if op.kind not in WEIGHTED:
        return None
    for name in op.inputs[:2]:
        tensor = graph.tensors[name]
        is_matrix = tensor.is_constant and tensor.shape is not None and len(tensor.shape) > 1
        if is_matrix and "float" in tensor.dtype and tensor.size_bytes >= least_bytes:
            return name
    return None


def _levels(graph: Graph, weighted: frozenset[str]) -> dict[str, int]:
    """Weights on the heaviest path to each operator, its own not counted."""
    after: dict[str, int] = {}
    level: dict[str, int] = {}
    tail: set[str] = set()
    readers = graph.consumers()
    for op in graph.ops:
        reads = [name for name in (*op.inputs, *op.captured) if name in after]
        own = max((after[name] for name in reads), default=0)
        moving = [name for name in reads if not graph.tensors[name].is_constant]
        stays = (
            len(moving) == 1
            and moving[0] in tail
            and (op.kind in ELEMENTWISE or op.op_type in VIEWS)
            and len(readers.get(moving[0], ())) == 1
        )
        if stays:
            own = after[moving[0]] - 1
        level[op.name] = own
        is_weighted = op.name in weighted
        for name in op.outputs:
            after[name] = own + (is_weighted or stays)
            if is_weighted or stays:
                tail.add(name)
    return level


def _seams(skeleton: Skeleton, level: Mapping[str, int], most: int) -> np.ndarray:
    """Levels at which a new group starts."""
    count = max(level.values(), default=0) + 1
    starts = np.arange(1, count)
    if count <= most:
        return starts
    period, first = _period(skeleton, level)
    if period <= 1:
        step = -(-count // most)
        return np.arange(step, count, step)
    blocks = -(-count // period)
    step = period * max(1, -(-blocks // most))
    if step == period and 2 * blocks <= most:
        step = period // max(1, min(period, most // blocks))
        step = next(s for s in range(step, period + 1) if period % s == 0)
    crossing = _crossing(skeleton.graph, level, count)
    offsets = range(first, first + step)
    best = min(offsets, key=lambda o: float(crossing[o % step :: step].sum()))
    return np.arange(best % step or step, count, step)


def _period(skeleton: Skeleton, level: Mapping[str, int]) -> tuple[int, int]:
    """Levels from one instance of the largest repeated block to the next, and where it starts."""
    for repeat in skeleton.repeats[:1]:
        starts = [min(level[name] for name in names) for names in repeat.instances]
        steps = np.diff(np.array(sorted(starts)))
        steps = steps[steps > 0]
        if len(steps):
            return int(np.median(steps)), min(starts)
    return 1, 0


def _crossing(graph: Graph, level: Mapping[str, int], count: int) -> np.ndarray:
    """Bytes alive between the levels before each position and those after it."""
    made: dict[str, int] = {name: level[op.name] for op in graph.ops for name in op.outputs}
    last: dict[str, int] = {}
    for op in graph.ops:
        for name in op.inputs:
            if name in made:
                last[name] = max(last.get(name, 0), level[op.name])
    change = np.zeros(count + 2)
    for name, end in last.items():
        if end > made[name]:
            change[made[name] + 1] += graph.tensors[name].size_bytes
            change[end + 1] -= graph.tensors[name].size_bytes
    return np.cumsum(change)[: count + 1]


def _described(
    graph: Graph, members: Sequence[Sequence[Op]], weighted: frozenset[str]
) -> tuple[Group, ...]:
    home = {name: n for n, ops in enumerate(members) for op in ops for name in op.outputs}
    read_by: dict[str, set[int]] = {}
    for n, ops in enumerate(members):
        for op in ops:
            for name in (*op.inputs, *op.captured):
                read_by.setdefault(name, set()).add(n)
    results = set(graph.outputs)
    found = []
    for n, ops in enumerate(members):
        heavy = tuple(op.name for op in ops if op.name in weighted)
        reads = dict.fromkeys(name for op in ops for name in (*op.inputs, *op.captured) if name)
        inputs = [
            name for name in reads if home.get(name) != n and not graph.tensors[name].is_constant
        ]
        made = (name for op in ops for name in op.outputs if name)
        outputs = [name for name in made if name in results or read_by.get(name, set()) - {n}]
        label = heavy[0] if heavy else ops[0].name
        found.append(Group(label, tuple(ops), heavy, tuple(inputs), tuple(outputs)))
    return tuple(found)
