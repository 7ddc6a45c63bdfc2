"""Large pipelines: a dual bound over forests, cuts from its multipliers, labels stage by stage.

1. The dual of `rows` over the forest bounds every plan from below.
2. Under its multipliers, each sequence of places is cut by dynamic programming; the best go on.
3. With stages fixed, a second dual prices each stage's memory; the labels of its points are mended
   and polished by swaps, completed to plans and judged by the checker alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from planner.errors import InfoptError
from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import TOLERANCE, priced
from planner.solve.scale.bounds import Bounds
from planner.solve.scale.clock import OutOfTimeError
from planner.solve.scale.complete import Completer
from planner.solve.scale.crossing import Crossing, crossing
from planner.solve.scale.cuts import Cut, Cutter
from planner.solve.scale.dual import Dual, Point
from planner.solve.scale.early import offer_early
from planner.solve.scale.fleet import fleet
from planner.solve.scale.prepared import prepared
from planner.solve.scale.refute import is_refuted
from planner.solve.scale.restream import make_room, restream
from planner.solve.scale.rows import SPREAD, rows
from planner.solve.scale.sizes import capacity_bytes, unit_of
from planner.solve.scale.staged import RESERVE, Staged
from planner.solve.scale.stages import sequences
from planner.solve.scale.tabu import Tabu
from planner.solve.scale.windows import Windows
from planner.solve.stages.exact import Exact
from planner.solve.stages.model import ENDS, EXPECTED, HIGH, LOW

ROUNDS = 150
"""Evaluations of the first dual."""
LEAST_ROUNDS = 8
"""Evaluations before the first plan, whatever they take: with poor multipliers it is hardly one."""
QUICK_ROUNDS = 12
"""Evaluations before the first plan, where they are quick."""
STAGE_ROUNDS = 40
"""Evaluations of each second dual."""
POINTS = 12
"""Points of a second dual that become plans."""
QUICK_SHARE = 0.01
"""Share of the time before the first plan;"""
DUAL_SHARE = 0.2
"""for the dual of all places;"""
STREAMS_SHARE = 0.15
"""for streams that delay the best plan, chosen anew;"""
RAISING_SHARE = 0.3
"""for bounds of few places, each time;"""
BRANCHING_SHARE = 0.5
"""for those of two stages, where the first plans of some sequences leave the gap open;"""
REFUTING_SHARE = 0.3
"""for a proof that nothing is feasible, where the first plans failed."""
FIRST = 2
"""Sequences of places that are worked out briefly at first: estimates do not see what no stream can
hide, and working on at one of them would cost a large problem all its time;"""
TRIED = 4
"""those that are worked out before bounds are looked at again."""
MOST_SEQUENCES = 400
"""Sequences of places that are cut, those of least bounds."""


@dataclass(slots=True)
class Large:
    """One setting of a large problem."""

    state: Exact
    row: int
    number: int = 0
    """Which objective is minimised."""
    _crossed: Crossing = field(init=False)
    _completer: Completer = field(init=False)

    @property
    def problem(self) -> Problem:
        """The problem."""
        return self.state.problem

    def run(self) -> float:
        """Improves the incumbent; the proved bound of the objective."""
        early = None
        if self.state.best is None:
            offer_early(self.state, self.row, self.number)
            early = self.state.best
        if self.state.best is not None and self._target() <= 0.0:
            return 0.0  # nothing costs less: any plan is within the gap asked for
        return self._searched(early)

    def _searched(self, early: Solution | None) -> float:
        """Bounds and plans by turns, beyond an early plan; the proved bound."""
        objective = self.problem.objectives[self.number]
        end = ENDS[self.state.end]
        found = prepared(self.problem, self.row, end, self.state.deadline)
        labelled = found.labelled
        if any(not len(kind.rank) for kind in labelled.kinds):
            return math.inf
        unit = unit_of(labelled, objective)
        self._crossed, self._completer = crossing(labelled), Completer(self.problem, self.row)
        bounds = Bounds(labelled, found.graph, objective, unit, self.state.deadline)
        with self._share(QUICK_SHARE) as until:
            point = bounds.start(self.state.deadline, LEAST_ROUNDS)
            point = bounds.start(until, QUICK_ROUNDS - LEAST_ROUNDS, point)
        self.state.report(self.number, bounds.bound, "Lagrangian dual")
        if bounds.bound == math.inf:
            return math.inf
        for is_even in (False, True):
            for each in self._cuts(bounds, is_even)[:FIRST]:
                if self.state.best is early or (not is_even and bounds.bound < self._target()):
                    self._work_out(each, bounds, QUICK_ROUNDS, 1)
        if self.state.best is None:
            with self._share(REFUTING_SHARE) as until:
                refuted = is_refuted(labelled, bounds.graph, bounds.rows, bounds.fleet, until)
            if refuted:
                return math.inf
        self._restream(bounds.bound)
        with self._share(DUAL_SHARE) as until:
            point = bounds.start(until, ROUNDS, point)
        self._raise(bounds, point)
        self._improve(bounds, point)
        self._close_in(bounds, point)
        return bounds.bound

    def _close_in(self, bounds: Bounds, point: Point) -> None:
        """Dear steps, cheapest first, while the gap is open."""
        if self._is_open(bounds):
            Tabu(self.state, self.row, self.number, bounds.bound).descend(self._close(bounds))
        self._branch(bounds, point)
        if self._is_open(bounds):
            self._polish(bounds.bound, self._close(bounds))

    def _is_open(self, bounds: Bounds) -> bool:
        """Whether the incumbent is of this setting and may be too far from the bound."""
        best, name = self.state.best, self.problem.settings[self.row].name
        return best is not None and best.setting == name and bounds.bound < self._target()

    def _polish(self, bound: float, close: float) -> None:
        """Moves and windows in turn, until neither gains or the time ends."""
        moves = Tabu(self.state, self.row, self.number, bound)
        windows = Windows(self.state, self.row, self.number)
        before = math.inf
        self._restream(bound)
        while self.state.values[self.number] < before and self.state.remaining_s > 0:
            before = self.state.values[self.number]
            with self._share(STREAMS_SHARE) as until:
                make_room(self.state, self.row, until)
            moves.descend(close)
            windows.run(bound, close)
            moves.descend(close)
            moves.search(close)

    def _restream(self, bound: float) -> None:
        """Streams of the incumbent anew."""
        name = self.problem.settings[self.row].name
        if self.state.best is None or self.state.best.setting != name:
            return
        with self._share(STREAMS_SHARE) as until:
            restream(self.state, self.row, self.number, bound, until)

    @contextmanager
    def _share(self, share: float) -> Iterator[float]:
        """The end of a step that gets a share of the time that is left; whether it was reached is
        noted, because what follows depends on the clock then."""
        until = monotonic() + share * self.state.remaining_s
        yield until
        self.state.is_clocked |= monotonic() >= until

    def _close(self, bounds: Bounds) -> float:
        """The value at which the gap asked for is reached."""
        gap = max(self.state.gap, 1e-9)
        return bounds.bound / (1.0 - gap) if gap < 1.0 else math.inf

    def _raise(self, bounds: Bounds, best: Point) -> None:
        """Better bounds of the ways to man the stages that may still beat the incumbent."""
        with self._share(RAISING_SHARE) as until:
            bounds.raise_to(self._target(), until, ROUNDS, best)
        self.state.report(self.number, bounds.bound, "Lagrangian duals of few places")

    def _branch(self, bounds: Bounds, best: Point) -> None:
        """Better bounds by branching, where the gap is open."""
        if not self._is_open(bounds):
            return
        with self._share(BRANCHING_SHARE) as until:
            bounds.branch(self._target(), until, ROUNDS, best)
        self.state.report(self.number, bounds.bound, "branching on where stages end")

    def _improve(self, bounds: Bounds, best: Point) -> None:
        """Works out one sequence of places after another."""
        tried: set[tuple[str, ...]] = set()
        while self.state.remaining_s > 0 and bounds.bound < self._target():
            names = [(tuple(p.name for p in c.stages.places), c) for c in self._cuts(bounds)]
            left = [(name, found) for name, found in names if name not in tried]
            if not left:
                return
            for name, found in left[:TRIED]:
                if self.state.remaining_s <= 0 or bounds.bound >= self._target():
                    return
                points = POINTS // 3 if tried else POINTS
                tried.add(name)
                self._work_out(found, bounds, STAGE_ROUNDS, points)
            self._raise(bounds, best)
            self._branch(bounds, best)

    def _work_out(self, found: Cut, bounds: Bounds, rounds: int, points: int) -> None:
        try:
            staged = Staged(
                self.state, self.row, found.stages, self.number, bounds.bound, self._completer
            )
            staged.run(rounds, points, self._close(bounds))
        except OutOfTimeError:
            self.state.hit_time_limit = True

    def _target(self) -> float:
        """The bound at which the search may stop."""
        if self.state.best is None:
            return math.inf
        value = self.state.values[self.number]
        return value - max(self.state.gap, 1e-9) * abs(value)

    def _cuts(self, bounds: Bounds, is_even: bool = False) -> list[Cut]:
        """Cuts of the sequences of places that may beat the incumbent, least estimates first."""
        cutters: dict[int, Cutter] = {}
        cuts: list[Cut] = []
        for sequence in self._promising(bounds):
            if self.state.remaining_s <= 0:
                break
            dual, point = bounds.guide(np.isin(np.arange(len(bounds.labelled.places)), sequence))
            if id(dual) not in cutters:
                cutters[id(dual)] = self._cutter(bounds, dual, point, is_even)
            one = cutters[id(dual)].cut(sequence)
            if one is not None:
                cuts.append(one)
        cuts.sort(key=lambda each: each.estimate)
        return cuts

    def _cutter(self, bounds: Bounds, dual: Dual, point: Point, is_even: bool) -> Cutter:
        """Estimates under a dual's multipliers but for those of memory, which stages have their
        own of."""
        is_memory = np.array([row.name.startswith("memory") for row in dual.rows.rows])
        multipliers = np.where(is_memory, 0.0, point.multipliers)
        places = range(len(bounds.labelled.places))
        capacity = np.array([capacity_bytes(self.problem, self.row, k) for k in places])
        return Cutter(
            bounds.labelled,
            dual.costs(multipliers),
            capacity * (1 - RESERVE),
            self._crossed,
            dual.offset(multipliers),
            bounds.objective in SPREAD,
            is_even,
        )

    def _promising(self, bounds: Bounds) -> list[tuple[int, ...]]:
        """Sequences of places that might beat the incumbent, least bounds first."""
        target, vectors = self._target(), bounds.fleet.vectors
        found: list[tuple[float, tuple[int, ...]]] = []
        known = {}
        if vectors is not None:
            pairs = zip(map(tuple, vectors.tolist()), bounds.known.tolist(), strict=True)
            known = dict(pairs)
        for sequence in sequences(self.problem):
            counts = np.bincount(sequence, minlength=len(self.problem.places))
            low = known.get(tuple(counts.tolist()), bounds.bound)
            if low < target:
                found.append((low, sequence))
        found.sort(key=lambda each: (each[0], len(each[1])))
        return [sequence for _, sequence in found[:MOST_SEQUENCES]]


def is_refuted_at_all_ends(problem: Problem, deadline: float) -> bool:
    """Whether multipliers prove that no plan keeps the limits, even at the lower ends; False where
    that stays open or the time ends."""
    if problem.repeatable:
        return False
    end = ENDS[LOW] if problem.limits.latency_us is not None else ENDS[HIGH]
    try:
        for row in range(len(problem.settings)):
            found = prepared(problem, row, end, deadline)
            limits = rows(found.labelled, problem.objectives[0])
            if not is_refuted(found.labelled, found.graph, limits, fleet(problem), deadline):
                return False
    except OutOfTimeError:
        return False
    return True


def _keeps(state: Exact, plan: Solution) -> bool:
    """Whether a plan keeps C8 at the end that is searched: the checker lets uncertain plans pass
    that keep it at the lower end only."""
    limit = state.problem.limits.latency_us
    if limit is None or state.end != EXPECTED:
        return True
    totals = priced(state.problem, plan)
    setting = next(each for each in state.problem.settings if each.name == plan.setting)
    ends = enumerate(totals.latency_expected_us)
    return all(setting.tail(shape) * us <= limit * (1 + TOLERANCE) for shape, us in ends)


def search_large(state: Exact) -> Status:
    """Every end of the intervals until a plan is found, every setting.

    The first objective only is bounded: a plan is optimal where the others are zero.
    """
    if state.problem.repeatable:
        return Status.UNKNOWN  # labels say that an operator runs once: no bound would hold
    ends = (HIGH,) if state.problem.limits.latency_us is None else (HIGH, EXPECTED, LOW)
    is_refuted_so_far = True
    for end in ends:
        state.end, state.bounds = end, []
        try:
            bounds = [Large(state, row).run() for row in range(len(state.problem.settings))]
        except OutOfTimeError:
            bounds, state.hit_time_limit = [-math.inf], True
        bound = min(bounds)
        state.hit_time_limit |= state.remaining_s <= 0
        if state.best is None or not _keeps(state, state.best):
            is_refuted_so_far &= bound == math.inf
            continue
        if bound > state.values[0] + 1e-6 * abs(state.values[0]):
            raise InfoptError(f"the bound {bound} lies above a checked plan, {state.values[0]}")
        state.bounds.append(min(bound, state.values[0]))
        is_proved = bound >= state.values[0] - max(state.gap, 1e-9) * abs(state.values[0])
        is_proved &= is_refuted_so_far and not any(state.values[1:])
        return Status.OPTIMAL if is_proved else Status.FEASIBLE
    return Status.INFEASIBLE if is_refuted_so_far else Status.UNKNOWN
