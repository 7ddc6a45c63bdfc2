"""Questions about a graph that placing, fusing and pricing ask: all in near-linear time.

No recursion and no enumeration of paths: a ladder of 40 diamonds has 2^40 of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from planner.errors import ModelError
from planner.ir.graph import Graph, Op


@dataclass(frozen=True)
class Wiring:
    """Who feeds whom, by position in the graph's order; build it once for many questions."""

    graph: Graph

    @cached_property
    def position(self) -> dict[str, int]:
        """Operator name -> its place in the topological order."""
        return {op.name: place for place, op in enumerate(self.graph.ops)}

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

    def is_convex(self, ops: Collection[str]) -> bool:
        """Whether no path leaves the set and comes back: only then can it run as one kernel.

        O(edges between the first and the last operator of the set).

        Raises:
            KeyError: a name that is no operator of the graph.
        """
        inside = {self.position[name] for name in ops}
        last = max(inside, default=-1)
        seen: set[int] = set()
        stack = [reader for place in inside for reader in self.readers[place]]
        while stack:
            place = stack.pop()
            if place in inside or place in seen or place > last:
                continue
            seen.add(place)
            if not inside.isdisjoint(self.readers[place]):
                return False
            stack.extend(self.readers[place])
        return True


def reads(op: Op) -> tuple[str, ...]:
    """Every tensor an operator needs, those its bodies capture included."""
    return tuple(name for name in (*op.inputs, *op.captured) if name)


def is_convex(graph: Graph, ops: Collection[str]) -> bool:
    """`Wiring.is_convex` for a single question."""
    return Wiring(graph).is_convex(ops)


def between(graph: Graph, inputs: Collection[str], outputs: Collection[str]) -> frozenset[str]:
    """Names of the operators that make the tensors `outputs` from the tensors `inputs`.

    The backward slice: what is behind `inputs` is left out, what `outputs` need otherwise is in.
    """
    producer = graph.producer()
    stop = frozenset(inputs)
    found: set[str] = set()
    stack = [name for name in outputs if name not in stop]
    while stack:
        op = producer.get(stack.pop())
        if op is None or op.name in found:
            continue
        found.add(op.name)
        stack.extend(name for name in reads(op) if name not in stop)
    return frozenset(found)


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


def repeated_blocks(graph: Graph, radius: int = 3) -> tuple[tuple[str, ...], ...]:
    """Groups of operators that play the same part in repeated structures, in graph order.

    Two operators are together if their surroundings up to `radius` steps, upstream and downstream,
    look alike: kinds, shapes and types of all operands, and which operand goes where
    (Weisfeiler-Lehman colours). Operators without a twin are left out. O(radius x edges).

    Tying the members of a group is always sound: it only removes freedom.
    """
    wiring = Wiring(graph)
    colours = [_digest(_surface(graph, op)) for op in graph.ops]
    maker = {name: i for i, op in enumerate(graph.ops) for name in op.outputs if name}
    for _ in range(radius):
        colours = [
            _digest(
                (
                    colours[place],
                    tuple(colours[maker[name]] if name in maker else "" for name in reads(op)),
                    tuple(sorted(colours[reader] for reader in wiring.readers[place])),
                )
            )
            for place, op in enumerate(graph.ops)
        ]
    groups: dict[str, list[str]] = {}
    for op, colour in zip(graph.ops, colours, strict=True):
        groups.setdefault(colour, []).append(op.name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def _surface(graph: Graph, op: Op) -> object:
    """What an operator looks like by itself."""
    operands = [graph.tensors[name] if name else None for name in (*op.inputs, *op.captured)]
    results = [graph.tensors[name] if name else None for name in op.outputs]
    looks = [t and (t.dtype, t.shape, t.is_constant) for t in (*operands, *results)]
    return op.kind, len(op.inputs), len(op.captured), looks


def _digest(value: object) -> str:
    """A short stable name; Python's own hash differs between processes."""
    return hashlib.blake2b(repr(value).encode(errors="surrogatepass"), digest_size=12).hexdigest()
