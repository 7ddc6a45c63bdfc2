"""Bounds of single ways to man the stages, by relaxations of their exact models, where those are
small: of one stage at once, of two by branching on where the first ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from planner.ir.problem import Objective, Problem
from planner.solve.data import IntArray
from planner.solve.scale.alone import MOST_COLUMNS, bound_alone, columns_alone
from planner.solve.scale.boundary import Boundary, columns_of_two

SHARE = 0.2
"""Share of all time left that one relaxation may take: half of it says nothing."""


@dataclass(slots=True)
class Relaxations:
    """What is known of some vectors of the fleet, by their numbers."""

    problem: Problem
    row: int
    end: str
    objective: Objective
    deadline: float
    """Of everything."""
    _alone: set[int] = field(default_factory=set)
    """Vectors of one stage that were relaxed."""
    _trees: dict[int, tuple[Boundary, ...]] = field(default_factory=dict)
    """Of vectors of two stages, one for each order of their places."""

    def alone(self, number: int, vector: IntArray, deadline: float) -> float | None:
        """Of a vector of one stage; None where it has more, is large or was relaxed before."""
        if vector.sum() != 1 or number in self._alone:
            return None
        self._alone.add(number)
        k = int(vector.argmax())
        if columns_alone(self.problem, k) > MOST_COLUMNS:
            return None
        limit_s = self._limit_s(deadline)
        return bound_alone(self.problem, self.row, self.end, k, self.objective, limit_s)

    def branched(
        self, number: int, vector: IntArray, target: float, deadline: float
    ) -> float | None:
        """Of a vector of two stages, higher each time; None where it has not two, is large or
        branching says nothing more."""
        if number not in self._trees:
            self._trees[number] = self._boundaries(vector)
        trees = self._trees[number]
        grew = [tree.raise_to(target, deadline, self._limit_s(deadline)) for tree in trees]
        return min(tree.bound for tree in trees) if any(grew) else None

    def _boundaries(self, vector: IntArray) -> tuple[Boundary, ...]:
        if vector.sum() != 2:
            return ()
        first, second = np.repeat(np.arange(len(vector)), vector).tolist()
        if columns_of_two(self.problem, (first, second)) > MOST_COLUMNS:
            return ()
        orders = dict.fromkeys(((first, second), (second, first)))
        return tuple(
            Boundary(self.problem, self.row, self.end, order, self.objective) for order in orders
        )

    def _limit_s(self, deadline: float) -> float:
        now = monotonic()
        return max(deadline - now, SHARE * (self.deadline - now), 0.01)
