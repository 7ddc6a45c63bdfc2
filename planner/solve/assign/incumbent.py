"""The best assignment so far, the bound, and the clock: what all strategies of a solve share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from planner.ir.problem import Objective, Problem
from planner.solve.assign.evaluate import Placed, over_memory, place, totals
from planner.solve.check import value
from planner.solve.progress import Progress, Reporter

EQUAL = 1e-9
"""Relative difference below which two values count as the same."""


@dataclass(slots=True)
class Incumbent:
    """Keeps what is best; every plan is priced by the checker's own sums before it counts."""

    problem: Problem
    deadline: float
    seed: int
    workers: int
    gap: float
    reporter: Reporter | None = None
    started: float = field(default_factory=monotonic)
    slots: tuple[int, ...] | None = None
    """Slot of every operator."""
    placed: Placed | None = None
    value_us: float = math.inf
    bound_us: float = 0.0
    is_infeasible: bool = False
    rounding: float = 0.0
    used: list[str] = field(default_factory=list)
    hit_time_limit: bool = False
    is_clocked: bool = False
    """A share of the time ended some step: what follows depends on the clock."""
    is_interrupted: bool = False

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self.problem.objectives[0]

    @property
    def remaining_s(self) -> float:
        """Seconds until the time limit, never negative."""
        return max(0.0, self.deadline - monotonic())

    @property
    def cutoff_us(self) -> float:
        """Plans at or above this are of no interest."""
        return (
            self.value_us * (1 - max(self.gap, EQUAL))
            if math.isfinite(self.value_us)
            else (math.inf)
        )

    @property
    def is_proved(self) -> bool:
        """Whether nothing better exists, within the gap asked for."""
        if math.isinf(self.value_us):
            return self.is_infeasible
        return self.bound_us >= self.value_us * (1 - max(self.gap, EQUAL, self.rounding))

    def offer(self, slots: Sequence[int], strategy: str) -> bool:
        """Takes a plan if it is better and within memory; the caller vouches for the rest."""
        named = dict(zip(self.problem.ops, slots, strict=True))
        placed = place(self.problem, named)
        priced = totals(self.problem, placed)
        found = value(priced, self.objective)
        if not found < self.value_us or any(over_memory(self.problem, priced)):
            return False
        self.slots, self.placed, self.value_us = tuple(slots), placed, found
        self._report(strategy)
        return True

    def raise_bound(self, bound_us: float, strategy: str) -> None:
        """Takes a proved lower bound if it is higher."""
        if bound_us > self.bound_us:
            self.bound_us = min(bound_us, self.value_us)
            self._report(strategy)

    def _report(self, strategy: str) -> None:
        if strategy not in self.used:
            self.used.append(strategy)
        if self.reporter is None:
            return
        best = self.value_us if math.isfinite(self.value_us) else None
        step = Progress(
            monotonic() - self.started, self.objective.value, best, self.bound_us, strategy
        )
        self.reporter(step)
