"""Exact moves of many nodes at once: an induced forest, all other nodes held as they are.

In a set of nodes whose induced graph has no cycle, the best options given all others follow by
dynamic programming from the leaves. Such a set holds about half of the nodes of a sparse graph.
One level of all trees is one step of array operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.solve.data import FloatArray, IntArray
from planner.solve.pairwise.data import (
    Pairwise,
    distinct,
    finite_or_infinite,
    firsts,
    ranges,
)


@dataclass(frozen=True, slots=True)
class _Step:
    """Children of one level and shape; the batch is the last axis."""

    matrices: FloatArray
    """(child's options, parent's options, edges)."""
    children: IntArray
    """Flat options: (child's options, edges)."""
    parents: IntArray
    """Flat options: (parent's options, edges)."""
    child: IntArray
    parent: IntArray
    """Nodes: (edges,)."""


@dataclass(frozen=True, slots=True)
class Forest:
    """An induced forest, ready for dynamic programming."""

    members: IntArray
    roots: IntArray
    steps: tuple[_Step, ...]
    """Deepest level first."""
    own: IntArray
    """Flat option that each boundary entry adds to."""
    outside: IntArray
    """Node outside that decides it."""
    entry: IntArray
    """Where its cost stands when that node takes option 0."""
    stride: IntArray
    """How much further for each option."""


class Forests:
    """Makes forests of one problem."""

    def __init__(self, problem: Pairwise) -> None:
        """O(entries)."""
        self.problem = problem
        self._pairs = finite_or_infinite(problem.pairs)
        self._begins = firsts(problem.pair_sizes)
        self._firsts = firsts(problem.sizes)
        self._near: list[list[tuple[int, int]]] = [[] for _ in range(problem.nodes)]
        for e, (a, b) in enumerate(problem.edges.tolist()):
            self._near[a].append((b, e))
            self._near[b].append((a, e))

    def _options(self, nodes: IntArray, count: int) -> IntArray:
        """`options_of`, which would add up all sizes for each of thousands of steps."""
        found: IntArray = self._firsts[nodes][:, None] + np.arange(count)
        return found

    def over(self, order: list[int]) -> Forest:
        """Takes nodes in this order as long as they close no cycle."""
        root = [-1] * self.problem.nodes

        def find(node: int) -> int:
            while root[node] != node:
                root[node] = root[root[node]]
                node = root[node]
            return node

        members = []
        for node in order:
            trees = [find(other) for other, _ in self._near[node] if root[other] >= 0]
            if len(set(trees)) < len(trees):
                continue
            root[node] = node
            for tree in trees:
                root[tree] = node
            members.append(node)
        return self._prepare(members, [node >= 0 for node in root])

    def _prepare(self, members: list[int], is_in: list[bool]) -> Forest:
        depth = [-1] * self.problem.nodes
        roots, links, border = [], [], []
        for start in members:
            if depth[start] >= 0:
                continue
            depth[start] = 0
            roots.append(start)
            queue = [start]
            for node in queue:
                for other, e in self._near[node]:
                    if not is_in[other]:
                        border.append((node, other, e))
                    elif depth[other] < 0:
                        depth[other] = depth[node] + 1
                        links.append((depth[other], other, node, e))
                        queue.append(other)
        own, outside, entry, stride = self._border(np.array(border, dtype=np.int64).reshape(-1, 3))
        steps = self._steps(np.array(links, dtype=np.int64).reshape(-1, 4))
        node_array = np.array(members, dtype=np.int64)
        return Forest(
            node_array, np.array(roots, dtype=np.int64), steps, own, outside, entry, stride
        )

    def _border(self, border: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        node, other, e = border.T
        sizes = self.problem.sizes
        count = sizes[node]
        is_first = self.problem.edges[e, 0] == node
        within = ranges(np.zeros(len(e), dtype=np.int64), count)
        step = np.where(is_first, sizes[other], 1)
        entry = np.repeat(self._begins[e], count) + within * np.repeat(step, count)
        stride = np.repeat(np.where(is_first, 1, count), count)
        own = ranges(self._firsts[node], count)
        return own, np.repeat(other, count), entry, stride

    def _steps(self, links: IntArray) -> tuple[_Step, ...]:
        if not len(links):
            return ()
        sizes = self.problem.sizes
        keys = np.column_stack([-links[:, 0], sizes[links[:, 1]], sizes[links[:, 2]]])
        kinds, kind_of = distinct(keys)
        order = np.argsort(kind_of, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(kind_of))[:-1])
        found = []
        for (_, rows, columns), part in zip(kinds.tolist(), parts, strict=True):
            _, child, parent, e = links[part].T
            is_first = self.problem.edges[e, 0] == child
            r, c = np.arange(rows)[:, None, None], np.arange(columns)[None, :, None]
            within = np.where(is_first, r * columns + c, c * rows + r)
            found.append(
                _Step(
                    self._pairs[self._begins[e] + within],
                    self._options(child, rows).T,
                    self._options(parent, columns).T,
                    child,
                    parent,
                )
            )
        return tuple(found)

    def improve(self, forest: Forest, chosen: IntArray, prices: FloatArray) -> IntArray:
        """The best options of the forest's nodes at these prices, all others held."""
        score = prices.copy()
        costs = self._pairs[forest.entry + chosen[forest.outside] * forest.stride]
        np.add.at(score, forest.own, costs)
        picks = []
        for step in forest.steps:
            table = step.matrices + score[step.children][:, None, :]
            picks.append(table.argmin(axis=0))
            np.add.at(score, step.parents, table.min(axis=0))
        found = chosen.copy()
        self._pick_roots(forest.roots, score, found)
        for step, pick in zip(reversed(forest.steps), reversed(picks), strict=True):
            found[step.child] = pick[found[step.parent], np.arange(len(step.child))]
        return found

    def _pick_roots(self, roots: IntArray, score: FloatArray, found: IntArray) -> None:
        for size in np.unique(self.problem.sizes[roots]).tolist():
            here = roots[self.problem.sizes[roots] == size]
            found[here] = score[self._options(here, size)].argmin(axis=1)
