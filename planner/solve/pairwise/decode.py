"""Plans from messages: node after node, what is decided counts as it is, the rest by messages."""

from __future__ import annotations

import numpy as np

from planner.solve.data import FloatArray, IntArray
from planner.solve.pairwise.data import FORBIDDEN, Pairwise, finite_or_infinite, firsts
from planner.solve.pairwise.messages import Messages


class Decoder:
    """For each node its edges as matrices whose rows are the other end's options."""

    def __init__(self, problem: Pairwise) -> None:
        """O(entries)."""
        self._firsts = firsts(problem.sizes).tolist()
        begins = firsts(problem.pair_sizes).tolist()
        slots = firsts(problem.sizes[problem.edges].ravel()).tolist()
        sizes = problem.sizes.tolist()
        costs = finite_or_infinite(problem.pairs)
        self._near: list[list[tuple[int, FloatArray, int, int]]] = [[] for _ in sizes]
        """(other node, matrix (other's options, own options), message from there: start, end)."""
        for e, (a, b) in enumerate(problem.edges.tolist()):
            matrix = costs[begins[e] : begins[e + 1]].reshape(sizes[a], sizes[b])
            self._near[b].append((a, matrix, slots[2 * e + 1], slots[2 * e + 2]))
            self._near[a].append((b, matrix.T, slots[2 * e], slots[2 * e + 1]))

    def decode(self, messages: Messages) -> IntArray:
        """One option per node; pairs it forbids itself are possible."""
        chosen = [-1] * len(self._near)
        for node, near in enumerate(self._near):
            score = messages.beliefs[self._firsts[node] : self._firsts[node + 1]]
            for other, matrix, start, end in near:
                if chosen[other] >= 0:
                    score = score + (matrix[chosen[other]] - messages.values[start:end])
            chosen[node] = int(score.argmin())
        return np.array(chosen, dtype=np.int64)


def cost_of(problem: Pairwise, chosen: IntArray) -> int | None:
    """Cost of a plan, memory aside; None where it uses what must not be chosen."""
    costs = problem.costs[firsts(problem.sizes)[:-1] + chosen]
    a, b = problem.edges.T
    entry = firsts(problem.pair_sizes)[:-1] + chosen[a] * problem.sizes[b] + chosen[b]
    pairs = problem.pairs[entry]
    if (costs >= FORBIDDEN).any() or (pairs >= FORBIDDEN).any():
        return None
    return int(costs.sum()) + int(pairs.sum())
