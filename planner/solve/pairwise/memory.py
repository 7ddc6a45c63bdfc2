"""Memory over time: which moments matter, what is in use at each, what cannot fit at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from planner.solve.data import BoolArray, IntArray
from planner.solve.pairwise.data import Pairwise, firsts, ranges


def at_maximal_moments(problem: Pairwise) -> Pairwise:
    """The same problem with time counted in moments whose set of live holds is maximal.

    After a start the live set only grows until the first end: a start that is followed by an end
    before the next start is a moment whose live set contains those of its neighbours. All other
    times are implied.
    """
    spans = problem.spans
    lives = np.flatnonzero(spans[:, 0] < spans[:, 1])
    if not len(lives):
        return _with_holds(problem, lives, spans[lives])
    starts, ends = np.unique(spans[lives, 0]), np.unique(spans[lives, 1])
    first_end = ends[np.searchsorted(ends, starts, side="right")]
    is_maximal = np.append(first_end[:-1] <= starts[1:], True)
    moments = starts[is_maximal]
    return _with_holds(problem, lives, np.searchsorted(moments, spans[lives]).astype(np.int64))


def _with_holds(problem: Pairwise, lives: IntArray, spans: IntArray) -> Pairwise:
    is_kept = np.zeros(len(problem.hold_nodes), dtype=np.bool_)
    is_kept[lives] = True
    return replace(
        problem,
        hold_nodes=problem.hold_nodes[lives],
        spans=spans,
        hold_sizes=problem.hold_sizes[np.repeat(is_kept, problem.hold_counts)],
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Use over the moments 0..count-1, hold by hold."""

    count: int
    """Number of moments."""
    nodes: IntArray
    spans: IntArray
    sizes: IntArray
    begins: IntArray
    """Where each hold's sizes begin."""
    options: IntArray
    """Flat option of each size."""
    limit: int

    @property
    def counts(self) -> IntArray:
        """Sizes of each hold: one for each option of its node."""
        found: IntArray = np.diff(self.begins)
        return found

    def use(self, chosen: IntArray) -> IntArray:
        """Bytes in use at each moment: (count,). O(holds + moments)."""
        return self._over_time(self.sizes[self.begins[:-1] + chosen[self.nodes]])

    def _over_time(self, size: IntArray) -> IntArray:
        change = np.zeros(self.count + 1, dtype=np.int64)
        np.add.at(change, self.spans[:, 0], size)
        np.subtract.at(change, self.spans[:, 1], size)
        found: IntArray = np.cumsum(change)[:-1]
        return found

    def row(self, moment: int) -> tuple[IntArray, IntArray]:
        """Flat options and their bytes at one moment; an option may occur several times."""
        live = np.flatnonzero((self.spans[:, 0] <= moment) & (moment < self.spans[:, 1]))
        entries = ranges(self.begins[live], self.counts[live])
        return self.options[entries], self.sizes[entries]

    def precision(self, prices: Mapping[int, float]) -> int:
        """Largest s such that prices times 2^s, times all there could be in use, fit 61 bits."""
        largest = np.maximum.reduceat(self.sizes, self.begins[:-1])
        peak = max(int(self._over_time(largest).max()), self.limit, 1)
        total = math.fsum(prices.values()) * peak
        return max(0, 60 - max(0, math.frexp(total)[1])) if total > 0 else 0


def memory(problem: Pairwise) -> Memory | None:
    """Of a problem counted in moments; None where nothing can exceed the limit."""
    if problem.limit is None or not len(problem.spans):
        return None
    counts = problem.hold_counts
    return Memory(
        int(problem.spans.max()),
        problem.hold_nodes,
        problem.spans,
        problem.hold_sizes,
        firsts(counts),
        ranges(firsts(problem.sizes)[problem.hold_nodes], counts),
        problem.limit,
    )


@dataclass(frozen=True, slots=True)
class _Extra:
    """What the options of one node use beyond its least use, segment by segment."""

    node: int
    edges: IntArray
    """Segment j lasts from edges[j] to edges[j + 1]."""
    bytes: IntArray
    """(segments, options)."""


def fitting(problem: Pairwise) -> BoolArray:
    """Options that fit beside the least use of all other nodes: a flat table.

    A node none of whose options fits has none left: then nothing is feasible.
    """
    kept = np.ones(len(problem.costs), dtype=np.bool_)
    held = memory(problem)
    if held is None:
        return kept
    least = np.zeros(held.count + 1, dtype=np.int64)
    extras = _extras(held, problem.sizes, least)
    lowest = _Lowest(held.limit - np.cumsum(least)[:-1])
    begins = firsts(problem.sizes)
    for extra in extras:
        room = lowest.over(extra.edges[:-1], extra.edges[1:])
        fits = (extra.bytes <= room[:, None]).all(axis=0)
        kept[begins[extra.node] : begins[extra.node + 1]] = fits
    return kept


def _extras(held: Memory, sizes: IntArray, least: IntArray) -> list[_Extra]:
    """Of every node with holds; its least use is added to the changes `least`."""
    order = np.argsort(held.nodes, kind="stable")
    nodes, counts = np.unique(held.nodes, return_counts=True)
    found = []
    for node, holds in zip(nodes.tolist(), np.split(order, np.cumsum(counts)[:-1]), strict=True):
        size = int(sizes[node])
        table = held.sizes[held.begins[holds][:, None] + np.arange(size)]
        edges = np.unique(held.spans[holds])
        change = np.zeros((len(edges), size), dtype=np.int64)
        np.add.at(change, np.searchsorted(edges, held.spans[holds, 0]), table)
        np.subtract.at(change, np.searchsorted(edges, held.spans[holds, 1]), table)
        use = np.cumsum(change, axis=0)[:-1]
        lowest = use.min(axis=1)
        least[edges[:-1]] += lowest
        least[edges[1:]] -= lowest
        found.append(_Extra(node, edges, use - lowest[:, None]))
    return found


class _Lowest:
    """Minimum over ranges of a fixed array: a sparse table, O(n log n) once, O(1) a range."""

    def __init__(self, values: IntArray) -> None:
        self._tables = [values]
        while 2 ** len(self._tables) <= len(values):
            last, half = self._tables[-1], 2 ** (len(self._tables) - 1)
            self._tables.append(np.minimum(last[:-half], last[half:]))

    def over(self, starts: IntArray, ends: IntArray) -> IntArray:
        """Minimum of values[start:end] for each range, none empty."""
        found = np.empty(len(starts), dtype=np.int64)
        exponents = np.frexp((ends - starts).astype(np.float64))[1] - 1
        for exponent in np.unique(exponents).tolist():
            here = exponents == exponent
            table = self._tables[exponent]
            found[here] = np.minimum(table[starts[here]], table[ends[here] - 2**exponent])
        return found
