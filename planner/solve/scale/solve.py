"""Large pipelines: a dual bound over forests, cuts from its multipliers, labels stage by stage.

1. The dual of `rows` over the forest bounds every plan from below.
2. Under its multipliers, each sequence of places is cut by dynamic programming; the best go on.
3. With stages fixed, a second dual prices each stage's memory; the labels of its points are mended
   and polished by swaps, completed to plans and judged by the checker alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic

import numpy as np

from planner.errors import InfoptError
from planner.ir.problem import Objective, Problem
from planner.ir.solution import Status
from planner.solve.scale.dual import Dual, Point, most_devices
from planner.solve.scale.edges import forest
from planner.solve.scale.labels import label
from planner.solve.scale.rows import rows
from planner.solve.scale.staged import RESERVE, Staged, capacity_bytes, unit_of
from planner.solve.scale.stages import Cut, cut, profile, sequences
from planner.solve.stages.exact import Exact
from planner.solve.stages.model import ENDS, EXPECTED, HIGH, LOW

ROUNDS = 150
"""Evaluations of the first dual."""
QUICK_ROUNDS = 12
"""Evaluations before the first plan."""
STAGE_ROUNDS = 40
"""Evaluations of each second dual."""
POINTS = 12
"""Points of a second dual that become plans."""
TRIED = 6
"""Sequences of places that are worked out, best estimate first."""


@dataclass(slots=True)
class Large:
    """One setting of a large problem."""

    state: Exact
    row: int
    number: int = 0
    """Which objective is minimised."""

    @property
    def problem(self) -> Problem:
        """The problem."""
        return self.state.problem

    def run(self) -> float:
        """Improves the incumbent; the proved bound of the objective."""
        objective = self.problem.objectives[self.number]
        end = ENDS[self.state.end]
        labelled = label(self.problem, self.row, end)
        if any(not len(kind.rank) for kind in labelled.kinds):
            return math.inf
        dual = Dual(
            labelled,
            forest(labelled, end),
            rows(labelled, objective),
            most_devices(self.problem),
            unit_of(labelled, objective),
        )
        best = dual.solve(monotonic() + 0.02 * self.state.remaining_s, QUICK_ROUNDS)
        if best.bound == math.inf:
            return best.bound
        self.state.report(self.number, best.bound, "Lagrangian dual")
        for each in self._cuts(dual, best)[:2]:
            if self.state.best is None:
                Staged(self.state, self.row, each.stages, self.number, best.bound).run(
                    QUICK_ROUNDS, 1
                )
        best = dual.solve(monotonic() + 0.4 * self.state.remaining_s, ROUNDS, best)
        self.state.report(self.number, best.bound, "Lagrangian dual")
        for rank, each in enumerate(self._cuts(dual, best)):
            if self.state.remaining_s <= 0 or self._is_close(best.bound):
                break
            points = POINTS if rank == 0 else POINTS // 3
            Staged(self.state, self.row, each.stages, self.number, best.bound).run(
                STAGE_ROUNDS, points
            )
        return best.bound

    def _work_out(self, found: Cut, best: Point, rounds: int, points: int) -> None:
        staged = Staged(self.state, self.row, found.stages, self.number, best.bound)
        staged.run(rounds, points)

    def _is_close(self, bound: float) -> bool:
        if self.state.best is None:
            return False
        value = self.state.values[self.number]
        return value - bound <= max(self.state.gap, 1e-9) * abs(value)

    def _cuts(self, dual: Dual, best: Point) -> list[Cut]:
        labelled = dual.labelled
        found = profile(labelled, dual.costs(best.multipliers))
        places = range(len(labelled.places))
        capacity = np.array([capacity_bytes(self.problem, self.row, k) for k in places])
        cuts = []
        for sequence in sequences(self.problem):
            if self.state.remaining_s <= 0:
                break
            one = cut(labelled, found, sequence, capacity * (1 - RESERVE))
            if one is not None:
                cuts.append(one)
        if self.problem.objectives[self.number] in (Objective.COST, Objective.DEVICES):
            prices = {d.name: d.price_per_hour for d in self.problem.devices}
            cuts.sort(
                key=lambda c: (
                    sum(p.degree * prices[p.device] for p in c.stages.places),
                    c.estimate,
                )
            )
        else:
            cuts.sort(key=lambda c: c.estimate)
        return cuts[:TRIED]


def search_large(state: Exact) -> Status:
    """Every end of the intervals until a plan is found, every setting; the first objective only is
    bounded, the others are left to the polish."""
    ends = (HIGH,) if state.problem.limits.latency_us is None else (HIGH, EXPECTED, LOW)
    for end in ends:
        state.end, state.bounds = end, []
        bounds = [Large(state, row).run() for row in range(len(state.problem.settings))]
        bound = min(bounds)
        if state.best is None and bound == math.inf:
            continue
        state.hit_time_limit |= state.remaining_s <= 0
        if state.best is None:
            continue
        if bound > state.values[0] + 1e-6 * abs(state.values[0]):
            raise InfoptError(f"the bound {bound} lies above a checked plan, {state.values[0]}")
        state.bounds.append(min(bound, state.values[0]))
        is_proved = bound >= state.values[0] - max(state.gap, 1e-9) * abs(state.values[0])
        return Status.OPTIMAL if is_proved else Status.FEASIBLE
    return Status.UNKNOWN
