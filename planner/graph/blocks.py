"""Blocks that occur again in a graph: the layers of a network, found by structure alone.

Three steps, all near-linear, none of which looks at a name:
1. **One order.** Operators are read depth-first from the outputs, operand by operand, so that what
   belongs together stands together, however the file mixes it. What many alike operators read (a
   mask, positions) is read first: it belongs to no block.
2. **One string.** Each operator is a letter: kind, attributes, dtypes and shapes of its operands.
   Repeats of a string show as `s[i] == s[i + p]`. Candidates for the period p are the distances
   between equal substrings of several lengths (Main and Lorentz 1984 find all of them; few count
   here). A run of length m is `m // p + 1` copies; where the run leaves freedom, the cut falls
   where the fewest bytes cross.
3. **Proof.** Instances are equal only if numbering their tensors by first use gives the same text:
   the same operators, wired in the same way. Operator j of one instance is operator j of the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.ir.graph import Graph, Op, Tensor

IntArray = np.ndarray[Any, np.dtype[np.int64]]

SUBSTRINGS = (1, 4, 16, 64, 256)
"""Lengths of the substrings whose distances are candidate periods."""
CANDIDATES = 24
"""Most frequent distances tried for each length."""
MIN_BLOCK = 2
"""Operators; a single repeated operator is no block."""
MANY_READERS = 3
"""Alike readers from which on a tensor is read before the blocks that share it."""
MOST_READERS = 5
"""From here on it is shared between blocks; fewer may be one block's own queries, keys, values."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A block and all its instances."""

    instances: tuple[tuple[str, ...], ...]
    """Operator names of each instance, in the order in which they stand in the network; the j-th of
    one corresponds to the j-th of every other."""

    @property
    def size(self) -> int:
        """Operators of one instance."""
        return len(self.instances[0])

    @property
    def ops(self) -> int:
        """Operators of all instances."""
        return self.size * len(self.instances)

    @property
    def tied(self) -> tuple[tuple[str, ...], ...]:
        """Operators that play the same part, a tuple for each part (`Problem.tied`)."""
        return tuple(zip(*self.instances, strict=True))


def find_repeats(graph: Graph, marks: Mapping[str, Hashable] | None = None) -> tuple[Repeat, ...]:
    """Repeated blocks, the one with most operators first; no operator is in two.

    Args:
        marks: operator -> what tells it apart beside its kind and operands: its attributes.
    """
    letters = _letters(graph, marks or {})
    order = _canonical(graph, letters)
    text = np.array([letters[place] for place in order], np.int64)
    crossing = _crossing(graph, order)
    taken = np.zeros(len(order), bool)
    found: dict[tuple[object, ...], list[tuple[str, ...]]] = {}
    for start, length, period in _runs(text):
        copies = length // period + 1
        spare = length % period
        if taken[start : start + copies * period + spare].any():
            continue
        start += int(np.argmin(crossing[start : start + spare + 1]))
        if not _collect(graph, letters, order, (start, copies, period), found):
            continue
        taken[start : start + copies * period] = True
    repeats = [Repeat(tuple(names)) for names in found.values() if len(names) > 1]
    return tuple(sorted(repeats, key=lambda repeat: -repeat.ops))


def _letters(graph: Graph, marks: Mapping[str, Hashable]) -> list[int]:
    """A number for each operator, equal for operators that look alike."""
    seen: dict[object, int] = {}
    tensors = graph.tensors
    return [
        seen.setdefault(
            (
                op.kind,
                marks.get(op.name),
                tuple(_look(tensors[name]) if name else None for name in op.inputs),
                tuple(_look(tensors[name]) for name in op.captured),
                tuple(_look(tensors[name]) if name else None for name in op.outputs),
            ),
            len(seen),
        )
        for op in graph.ops
    ]


def _look(tensor: Tensor) -> tuple[object, ...]:
    return tensor.dtype, tensor.shape, tensor.is_constant


def _canonical(graph: Graph, letters: Sequence[int]) -> list[int]:
    """Positions of the operators in an order that depends on structure only."""
    maker = {name: place for place, op in enumerate(graph.ops) for name in op.outputs if name}
    sources = [
        [maker[name] for name in (*op.inputs, *op.captured) if name in maker] for op in graph.ops
    ]
    depth = _depth(sources)
    common = _common(sources, letters, depth)
    ends = [maker[name] for name in graph.outputs if name in maker]
    # The deepest first: side outputs such as a KV cache would tear the last block apart.
    ends.sort(key=lambda place: -depth[place])
    order: list[int] = []
    done = [False] * len(sources)
    for root in (*common, *ends, *range(len(sources))):
        _visit(root, sources, done, order)
    return order


def _depth(sources: Sequence[Sequence[int]]) -> list[int]:
    """Operators on the longest path that ends in each."""
    depth: list[int] = []
    for reads in sources:
        depth.append(1 + max((depth[source] for source in reads), default=0))
    return depth


def _common(
    sources: Sequence[Sequence[int]], letters: Sequence[int], depth: Sequence[int]
) -> list[int]:
    """Operators whose results many alike operators read: those that surely are shared between
    blocks first, then by depth."""
    alike: Counter[tuple[int, int]] = Counter()
    for place, reads in enumerate(sources):
        alike.update((source, letters[place]) for source in dict.fromkeys(reads))
    most: dict[int, int] = {}
    for (source, _), count in alike.items():
        most[source] = max(count, most.get(source, 0))
    common = [source for source, count in most.items() if count >= MANY_READERS]
    return sorted(
        common, key=lambda place: (most[place] < MOST_READERS, depth[place], letters[place], place)
    )


def _visit(root: int, sources: Sequence[Sequence[int]], done: list[bool], order: list[int]) -> None:
    """Appends what `root` needs, then itself; depth-first without recursion."""
    stack = [(root, iter(sources[root]))] if not done[root] else []
    done[root] = True
    while stack:
        place, rest = stack[-1]
        following = next((source for source in rest if not done[source]), None)
        if following is None:
            order.append(place)
            stack.pop()
            continue
        done[following] = True
        stack.append((following, iter(sources[following])))


def _crossing(graph: Graph, order: Sequence[int]) -> IntArray:
    """Bytes alive between the operators before each position of the order and those after."""
    last: dict[str, int] = {}
    for step, place in enumerate(order):
        op = graph.ops[place]
        last.update((name, step) for name in (*op.inputs, *op.captured) if name)
    change = np.zeros(len(order) + 2, np.int64)
    for step, place in enumerate(order):
        for name in graph.ops[place].outputs:
            if last.get(name, step) > step:
                # A tensor without size still crosses.
                size_bytes = graph.tensors[name].size_bytes + 1
                change[step + 1] += size_bytes
                change[last[name] + 1] -= size_bytes
    return np.cumsum(change)[: len(order) + 1]


def _runs(text: IntArray) -> Iterator[tuple[int, int, int]]:
    """(start, length of equality, period), those that cover most first."""
    found = [
        (start, length, period)
        for period in _periods(text)
        for start, length in _stretches(text[:-period] == text[period:])
        if length >= period
    ]
    found.sort(key=lambda run: (-(run[1] // run[2] + 1) * run[2], run[2], run[0]))
    yield from found


def _periods(text: IntArray) -> list[int]:
    """Candidate periods, ascending."""
    periods: set[int] = set()
    hashes = text.astype(np.uint64)
    length = 1
    for wanted in SUBSTRINGS:
        while length < wanted and len(hashes) > length:
            # The hash of a substring of twice the length, from those of its halves.
            left, right = hashes[:-length], hashes[length:]
            hashes = left * np.uint64(0x9E3779B97F4A7C15) ^ (right + np.uint64(length))
            hashes ^= hashes >> np.uint64(29)
            length *= 2
        if length != wanted:
            break
        periods.update(_frequent_distances(hashes))
    return sorted(period for period in periods if MIN_BLOCK <= period <= len(text) // 2)


def _frequent_distances(hashes: np.ndarray[Any, np.dtype[np.uint64]]) -> list[int]:
    """Distances between neighbouring equal entries, those that occur most often."""
    places = np.argsort(hashes, kind="stable")
    equal = hashes[places[1:]] == hashes[places[:-1]]
    distances, counts = np.unique(np.diff(places)[equal], return_counts=True)
    weight = counts * distances
    return [int(distances[index]) for index in np.argsort(-weight, kind="stable")[:CANDIDATES]]


def _stretches(equal: np.ndarray[Any, np.dtype[np.bool_]]) -> Iterator[tuple[int, int]]:
    """(start, length) of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], equal, [False])).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        yield int(start), int(end - start)


def _collect(
    graph: Graph,
    letters: Sequence[int],
    order: Sequence[int],
    run: tuple[int, int, int],
    found: dict[tuple[object, ...], list[tuple[str, ...]]],
) -> bool:
    """Sorts the instances of a run by their wiring; whether any two are equal."""
    start, copies, period = run
    groups: dict[tuple[object, ...], list[tuple[str, ...]]] = {}
    for first in range(start, start + copies * period, period):
        places = order[first : first + period]
        wiring = _wiring([graph.ops[place] for place in places])
        key: tuple[object, ...] = (tuple(letters[place] for place in places), wiring)
        groups.setdefault(key, []).append(tuple(graph.ops[place].name for place in places))
    if all(len(names) == 1 for names in groups.values()) and found.keys().isdisjoint(groups):
        return False
    for key, names in groups.items():
        found.setdefault(key, []).extend(names)
    return True


def _wiring(ops: Sequence[Op]) -> tuple[tuple[int, ...], ...]:
    """Operands and results of each operator, tensors numbered by first use."""
    numbers: dict[str, int] = {"": -1}
    return tuple(
        tuple(
            numbers.setdefault(name, len(numbers))
            for name in (*op.inputs, *op.captured, *op.outputs)
        )
        for op in ops
    )
