"""Which operators a few ranks share best, for a model whose every shape is known.

    tensor_cuts   classes of axes that cut weights, taken greedily while they pay
    stage_ends    contiguous stages of about equal work, cut where few bytes cross

An axis of one operator is tied to an axis of the next through the tensor between them; all that is
tied is one class (heads of a layer; hidden units of a feed-forward), and is cut together or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from planner.ir.graph import Graph, Op
from planner.ops.sharding import Index, Kind
from planner.place.union import Union, nodes_of

Options = Mapping[str, Sequence[Index]]
Price = Callable[[Mapping[str, Index]], float]
"""Microseconds of all collectives that choices lead to."""

_FLOPS_PER_US = 40e3
"""A core of a server CPU in a matrix product; only the ratio to the next matters here."""
_ELEMENTS_PER_US = 500.0
"""The same, elements of everything else."""


def work_us(op: Op, graph: Graph, indices: Sequence[Index]) -> float:
    """A rough time on one core: loop iterations of products, elements of all else."""
    if any(index.kind is Kind.SUM for index in indices):
        return 2.0 * math.prod(index.extent for index in indices) / _FLOPS_PER_US
    shapes = [graph.tensors[name].shape or () for name in op.outputs if name]
    return sum(math.prod(shape) for shape in shapes) / _ELEMENTS_PER_US


def tensor_cuts(graph: Graph, options: Options, ranks: int, price: Price) -> dict[str, Index]:
    """Operator -> the index it is cut along; operators that stay whole are not in it.

    Classes are taken in the order of what they save for what they make ranks say: heads and hidden
    units of a layer need one sum each, the width that residuals tie through all layers needs many.
    """
    saved = {op.name: _saved_us(op, graph, options[op.name], ranks) for op in graph.ops}
    classes = _classes(graph, options, ranks)
    worth = [(sum(saved[name] for name in own) / max(price(own), 1e-9), own) for own in classes]
    chosen: dict[str, Index] = {}
    best = price(chosen)
    for _, own in sorted(worth, key=lambda one: -one[0]):
        trial = {**own, **chosen}
        added = sum(saved[name] for name in trial.keys() - chosen.keys())
        talk = price(trial)
        if added > talk - best:
            chosen, best = trial, talk
    return chosen


def _saved_us(op: Op, graph: Graph, own: Sequence[Index], ranks: int) -> float:
    return work_us(op, graph, own) * (1 - 1 / ranks)


def _classes(graph: Graph, options: Options, ranks: int) -> list[Mapping[str, Index]]:
    """Classes that cut a weight: operator -> its index, for each."""
    union = Union()
    fixed = _fixed(graph)
    shared = {name: [i for i in own if i.extent % ranks == 0] for name, own in options.items()}
    for op in graph.ops:
        for index in shared[op.name]:
            union.join(nodes_of(op, index))
    members: dict[int, dict[str, Index]] = {}
    holds: set[int] = set()
    for op in graph.ops:
        for index in shared[op.name]:
            root = union.find(nodes_of(op, index)[0])
            members.setdefault(root, {}).setdefault(op.name, index)
            if _cuts_weight(op, index, fixed, options[op.name]):
                holds.add(root)
    return [own for root, own in members.items() if root in holds]


def _cuts_weight(op: Op, index: Index, fixed: set[str], all_of_op: Sequence[Index]) -> bool:
    is_product = any(one.kind is Kind.SUM for one in all_of_op)
    return is_product and any(op.inputs[axis.slot] in fixed for axis in index.inputs)


def _fixed(graph: Graph) -> set[str]:
    """Constants, and what follows from them alone: weights are stored in 8 bits and widened."""
    found = {name for name, tensor in graph.tensors.items() if tensor.is_constant}
    for op in graph.ops:
        reads = [name for name in (*op.inputs, *op.captured) if name]
        if reads and found.issuperset(reads):
            found.update(name for name in op.outputs if name)
    return found


def stage_ends(graph: Graph, options: Options, stages: int) -> list[int]:
    """Positions in the operators' order where stages end, the last one included.

    The slowest stage is as fast as can be; of such cuts, those over which the fewest bytes cross.

    Raises:
        ValueError: more stages than operators.
    """
    if stages > len(graph.ops):
        raise ValueError(f"{len(graph.ops)} operators make no {stages} stages")
    times = [0.0]
    for op in graph.ops:
        times.append(times[-1] + work_us(op, graph, options[op.name]))
    crossing = crossing_bytes(graph)
    limit_us = _fastest_slowest(times, stages) * (1 + 1e-9)
    best = {0: (0, tuple[int, ...]())}
    for _ in range(stages):
        best = {
            end: found
            for end in range(1, len(times))
            if (found := _cheapest(best, end, times, crossing, limit_us)) is not None
        }
    return list(best[len(graph.ops)][1])


def _cheapest(
    best: Mapping[int, tuple[int, tuple[int, ...]]],
    end: int,
    times: Sequence[float],
    crossing: Sequence[int],
    limit_us: float,
) -> tuple[int, tuple[int, ...]] | None:
    """(bytes that cross, ends) of the best stages up to `end`, the last within the limit."""
    found = (
        (size_bytes + crossing[start], (*ends, end))
        for start, (size_bytes, ends) in best.items()
        if start < end and times[end] - times[start] <= limit_us
    )
    return min(found, default=None)


def _fastest_slowest(times: Sequence[float], stages: int) -> float:
    """The least time within which the slowest stage can be kept."""
    best = list(times)
    for _ in range(stages - 1):
        best = [
            min((max(best[cut], times[end] - times[cut]) for cut in range(end)), default=0.0)
            for end in range(len(times))
        ]
    return best[-1]


def crossing_bytes(graph: Graph) -> list[int]:
    """For each position, bytes that operators from there on read of those before."""
    made = {name: place for place, op in enumerate(graph.ops) for name in op.outputs if name}
    change = [0] * (len(graph.ops) + 2)
    last: dict[str, int] = {}
    for place, op in enumerate(graph.ops):
        for name in (*op.inputs, *op.captured):
            if name in made:
                last[name] = place
    for name, place in last.items():
        size_bytes = graph.tensors[name].size_bytes
        change[made[name] + 1] += size_bytes
        change[place + 1] -= size_bytes
    found, total = [], 0
    for value in change:
        total += value
        found.append(total)
    return found
