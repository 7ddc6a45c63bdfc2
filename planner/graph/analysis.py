"""Who feeds whom, and the memory that an order of operators takes; in near-linear time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from planner.errors import ModelError
from planner.ir.graph import Graph, Op


@dataclass(frozen=True)
class Wiring:
    """Who feeds whom, by position in the graph's order; build it once for many questions."""

    graph: Graph

    @cached_property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """For each operator the places of those it reads from, in operand order, no repeats."""
        maker = {name: i for i, op in enumerate(self.graph.ops) for name in op.outputs if name}
        return tuple(
            tuple(dict.fromkeys(maker[name] for name in reads(op) if name in maker))
            for op in self.graph.ops
        )

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For each operator the places of those that read from it, in order."""
        found: list[list[int]] = [[] for _ in self.graph.ops]
        for place, sources in enumerate(self.sources):
            for source in sources:
                found[source].append(place)
        return tuple(tuple(places) for places in found)


def reads(op: Op) -> tuple[str, ...]:
    """Every tensor an operator needs, those its bodies capture included."""
    return tuple(name for name in (*op.inputs, *op.captured) if name)


def peak_activation_bytes(graph: Graph, order: Sequence[str] | None = None) -> int:
    """Most bytes of activations alive at once when operators run one by one in `order`.

    While an operator runs, everything it reads and makes is alive. The model's inputs and outputs
    stay alive to the end: they are the caller's. Constants do not count; tensors of unknown shape
    count as their recorded size, 0.

    Raises:
        ModelError: `order` is not a topological order of all operators.
    """
    ops = graph.ops if order is None else _in_order(graph, order)
    last_read = {name: step for step, op in enumerate(ops) for name in reads(op)}
    dies: list[list[str]] = [[] for _ in ops]
    pinned = frozenset((*graph.inputs, *graph.outputs))
    for step, op in enumerate(ops):
        for name in dict.fromkeys(op.outputs):
            if name and name not in pinned:
                dies[last_read.get(name, step)].append(name)
    alive = peak = _size(graph, graph.inputs)
    for step, op in enumerate(ops):
        alive += _size(graph, op.outputs)
        peak = max(peak, alive)
        alive -= _size(graph, dies[step])
    return peak


def _size(graph: Graph, names: Iterable[str]) -> int:
    tensors = (graph.tensors[name] for name in dict.fromkeys(names) if name)
    return sum(tensor.size_bytes for tensor in tensors if not tensor.is_constant)


def _in_order(graph: Graph, order: Sequence[str]) -> tuple[Op, ...]:
    by_name = {op.name: op for op in graph.ops}
    if len(order) != len(by_name) or set(order) != by_name.keys():
        raise ModelError("the order must name every operator exactly once")
    ops = tuple(by_name[name] for name in order)
    made = {name for op in ops for name in op.outputs if name}
    known: set[str] = set()
    for op in ops:
        early = [name for name in reads(op) if name in made and name not in known]
        if early:
            raise ModelError(f"operator {op.name!r} runs before {early[0]!r} is made")
        known.update(op.outputs)
    return ops
