"""The bound of two stages at given places: branch and bound over where the first of them ends.

Half of "all in the first stage" and half of "all in the second" keeps the memory of both and cuts
nothing. So neither multipliers of stages' memory nor the linear relaxation of the exact model see
what it costs to end a stage in the midst of parallel branches. An operator lies on one side of the
boundary: with all before it in the first stage, or with all behind it in the second. Relaxations of
both sides exclude that mixture, and a few operators settle most of a graph. Nodes are relaxed least
bound first (Land and Doig, Econometrica 28, 1960); every bound is computed from the model's own
numbers (`relax.certified`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from time import monotonic

import numpy as np

from planner.ir.problem import Objective, Problem
from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.relax import relax
from planner.solve.scale.alone import columns_alone, programmed, unbounded
from planner.solve.stages.exact import build
from planner.solve.stages.model import ENDS

UNDECIDED, FIRST, SECOND = 0, 1, 2
"""The side of an operator."""
MIXED = 1e-3
"""Share of an operator on its lesser side above which the relaxation mixes both."""


def columns_of_two(problem: Problem, sequence: tuple[int, int]) -> int:
    """About how many columns the model of two stages has."""
    return sum(columns_alone(problem, k) for k in sequence) + len(problem.transfers)


@dataclass(order=True, slots=True)
class _Node:
    """Operators on sides, and the relaxation of that."""

    bound: float
    number: int
    """Earlier nodes first among equals."""
    side: IntArray = field(compare=False)
    share: FloatArray = field(compare=False)
    """Of each operator in the first stage."""


class Boundary:
    """A tree that grows while somebody asks for more of its bound."""

    def __init__(
        self, problem: Problem, row: int, end: str, sequence: tuple[int, int], objective: Objective
    ) -> None:
        m = build(problem, row, ENDS.index(end), sequence)
        self._program, self._linear = programmed(m, objective)
        self._unbounded = unbounded(self._program, self._linear)
        self._behind = _reached(problem)
        number = {name: n for n, name in enumerate(problem.ops)}
        self._ops = [[number[name] for name in option.ops] for option in problem.options]
        self._placed = [(g, p, column) for (g, p), column in m.x.items()]
        self._placed += [(key[0], key[1], column) for key, column in m.u.items()]
        self._chosen = len(m.x)
        """How many of these say where an option runs; the others, where its weights live."""
        self._numbers = count()
        self._open: list[_Node] = []
        """A heap."""
        self._is_single = bool(problem.repeatable)
        """Copies of one operator may lie on both sides: nothing is branched on."""
        self._is_settled = False
        """Nothing is left to branch on."""

    @property
    def bound(self) -> float:
        """Of every plan with these stages."""
        return self._open[0].bound if self._open else -np.inf

    def raise_to(self, target: float, deadline: float, limit_s: float) -> bool:
        """Branches until the bound reaches a target, the time ends or nothing is mixed; whether
        the tree grew.

        Args:
            limit_s: of one relaxation, which may end after the deadline.
        """
        grew = False
        while self.bound < target and not self._is_settled and monotonic() < deadline:
            if not self._grown(limit_s):
                break
            grew = True
        return grew

    def _grown(self, limit_s: float) -> bool:
        """Relaxes the whole, or branches at the node of least bound; whether the time sufficed."""
        sides = self._next_sides()
        found = (self._node(side, self.bound, limit_s) for side in sides)
        nodes = [node for node in found if node is not None]
        if not nodes or len(nodes) < len(sides):
            return False
        self._open[:1] = nodes
        heapq.heapify(self._open)
        self._is_settled = self._is_single
        return True

    def _next_sides(self) -> list[IntArray]:
        """Of the nodes that replace the one of least bound; none where that mixes nothing."""
        if not self._open:
            return [np.full(len(self._behind), UNDECIDED, dtype=np.int64)]
        op = self._mixed(self._open[0])
        self._is_settled = op is None
        return [] if op is None else list(self._sides(self._open[0].side, op))

    def _node(self, side: IntArray, known: float, limit_s: float) -> _Node | None:
        """Relaxes what is left; None where the time is short."""
        allowed = np.ones(len(self._linear.coefficients), dtype=np.bool_)
        for g, p, column in self._placed:
            allowed[column] = all(side[op] in (UNDECIDED, p + 1) for op in self._ops[g])
        found = relax(self._program, self._linear, allowed, self._unbounded, limit_s)
        if found.bound == -np.inf:
            return None
        share = np.zeros(len(side))
        values = np.zeros(len(allowed)) if found.values is None else found.values
        for g, p, column in self._placed[: self._chosen]:
            if p == 0:
                share[self._ops[g]] += values[column]
        return _Node(max(known, found.bound), next(self._numbers), side, share)

    def _mixed(self, node: _Node) -> int | None:
        """The operator of which most lies on both sides and that takes most others along, on
        whichever side it is."""
        is_open = node.side == UNDECIDED
        lesser = np.minimum(node.share, 1.0 - node.share)
        along = (self._behind & is_open[:, None]).sum(axis=0) + 1.0
        along *= (self._behind & is_open[None, :]).sum(axis=1) + 1.0
        worth = np.where(is_open & (lesser > MIXED), lesser * along, 0.0)
        return int(worth.argmax()) if worth.any() else None

    def _sides(self, side: IntArray, op: int) -> Iterator[IntArray]:
        """An operator in the first stage with all before it, and in the second with all behind."""
        for members, where in ((self._behind[:, op], FIRST), (self._behind[op], SECOND)):
            found = side.copy()
            found[members] = where
            found[op] = where
            yield found


def _reached(problem: Problem) -> BoolArray:
    """[u, v]: whether v waits for u, over any number of edges."""
    number = {name: n for n, name in enumerate(problem.ops)}
    found = np.zeros((len(number), len(number)), dtype=np.bool_)
    after: dict[int, list[int]] = {}
    for u, v in problem.edges:
        after.setdefault(number[u], []).append(number[v])
    for first in reversed(range(len(number))):
        for then in after.get(first, ()):
            found[first, then] = True
            found[first] |= found[then]
    return found
