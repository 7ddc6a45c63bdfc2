"""Sequential tree-reweighted message passing (TRW-S), many nodes at a time.

V. Kolmogorov, "Convergent Tree-Reweighted Message Passing for Energy Minimization", PAMI 2006.
Nodes are processed in an order; those of one level (no edge between them) together. Going forward,
node i with belief b_i(k) = c_i(k) + Σ_j μ_ji(k) sends to each later neighbour j

    μ_ij(l) = min_k ( M_ij(k, l) + γ_i·b_i(k) - μ_ji(k) ),    γ_i = 1 / max(earlier, later edges)

and the same backward. Any messages give a bound; these never make it worse (`bound.py` proves it in
integers).

Why levels of colours and not of time? Sharding problems colour with three or four colours: a sweep
is a hundred array operations instead of thousands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.data import FloatArray, IntArray
from planner.solve.pairwise.data import (
    FORBIDDEN,
    Pairwise,
    blocks,
    finite_or_infinite,
    firsts,
    options_of,
)


@dataclass(frozen=True, slots=True)
class Group:
    """Edges of one shape whose sending ends are on one level. The batch is the last axis."""

    matrices: FloatArray
    """(senders' options, receivers' options, edges)."""
    senders: IntArray
    """Flat options of the sending nodes: (rows, edges)."""
    receivers: IntArray
    """Flat options of the receiving nodes: (columns, edges)."""
    arriving: IntArray
    """Where the messages to the senders stand: (rows, edges)."""
    leaving: IntArray
    """Where the messages to the receivers stand: (columns, edges)."""
    shares: FloatArray
    """The factor of the sending nodes' beliefs: (edges,)."""


def colours(problem: Pairwise) -> IntArray:
    """Greedy colouring, nodes of most edges first: no edge within a colour. (nodes,)"""
    near: list[list[int]] = [[] for _ in range(problem.nodes)]
    for a, b in problem.edges.tolist():
        near[a].append(b)
        near[b].append(a)
    found = [-1] * problem.nodes
    for node in sorted(range(problem.nodes), key=lambda node: (-len(near[node]), node)):
        used = {found[other] for other in near[node]}
        colour = 0
        while colour in used:
            colour += 1
        found[node] = colour
    return np.array(found, dtype=np.int64)


class Messages:
    """The state of message passing on one problem; prices of options may change between sweeps."""

    def __init__(self, problem: Pairwise) -> None:
        """O(entries), twice: both directions keep their matrices in order."""
        self.problem = problem
        self._slots = firsts(problem.sizes[problem.edges].ravel())
        """Message 2·e goes to the first end of edge e, 2·e + 1 to the second."""
        self.values: FloatArray = np.zeros(int(self._slots[-1]))
        self.prices = finite_or_infinite(problem.costs)
        self.beliefs = self.prices.copy()
        self.stacks = blocks(problem)
        """The matrices as integers."""
        level = colours(problem)
        self._forward = list(self._groups(level))
        self._backward = list(self._groups(-level))
        self.receivers: IntArray = np.zeros(len(self.values), dtype=np.int64)
        """Flat option that each entry of `values` is sent to."""
        for group in self._forward:
            self.receivers[group.arriving] = group.senders
            self.receivers[group.leaving] = group.receivers

    def _groups(self, level: IntArray) -> Iterator[Group]:
        """In the order of the senders' levels."""
        problem = self.problem
        first, second = problem.edges.T
        is_first = level[first] < level[second]
        sends = np.where(is_first, first, second)
        later = np.bincount(sends, minlength=problem.nodes)
        earlier = np.bincount(first + second - sends, minlength=problem.nodes)
        shares = 1.0 / np.maximum(np.maximum(later, earlier), 1)
        for at in np.unique(level[sends]).tolist():
            for block in self.stacks:
                here = level[sends[block.edges]] == at
                for is_forward in (True, False):
                    chosen = here & (is_first[block.edges] == is_forward)
                    if chosen.any():
                        matrices = block.matrices[chosen]
                        yield self._group(block.edges[chosen], matrices, is_forward, shares)

    def _group(
        self, edges: IntArray, matrices: IntArray, is_forward: bool, shares: FloatArray
    ) -> Group:
        to_sender, to_receiver = (0, 1) if is_forward else (1, 0)
        senders, receivers = self.problem.edges[edges].T[[to_sender, to_receiver]]
        stacked = matrices.transpose((1, 2, 0) if is_forward else (2, 1, 0))
        rows, columns, _ = stacked.shape
        return Group(
            np.ascontiguousarray(finite_or_infinite(stacked)),
            options_of(self.problem, senders, rows).T,
            options_of(self.problem, receivers, columns).T,
            self._slots[2 * edges + to_sender] + np.arange(rows)[:, None],
            self._slots[2 * edges + to_receiver] + np.arange(columns)[:, None],
            shares[senders],
        )

    def reprice(self, prices: FloatArray) -> None:
        """New option prices; messages stay."""
        is_open = self.problem.costs < FORBIDDEN
        self.beliefs[is_open] += (prices - self.prices)[is_open]
        self.prices = prices

    def sweep(self, times: int = 1) -> None:
        """Forward and backward, so many times."""
        for _ in range(times):
            self._pass(self._forward)
            self._pass(self._backward)

    def _pass(self, groups: Sequence[Group]) -> None:
        for group in groups:
            sent = self.beliefs[group.senders] * group.shares - self.values[group.arriving]
            found = (group.matrices + sent[:, None, :]).min(axis=0)
            np.add.at(self.beliefs, group.receivers, found - self.values[group.leaving])
            self.values[group.leaving] = found

    def shifts(self) -> FloatArray:
        """What each edge gives to its two ends, after a sweep: a reparametrisation.

        θ_i(k) = c_i(k) + Σ_e shift, M~_e(k, l) = M_e(k, l) - shift(k) - shift(l). The senders of
        the last pass leave their share in their edges.
        """
        found = self.values.copy()
        for group in self._backward:
            found[group.arriving] -= self.beliefs[group.senders] * group.shares
        return found
