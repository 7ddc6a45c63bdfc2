"""The exact search of a pipeline: its whole model, setting by setting, objective by objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.backend import Answer
from planner.solve.check import judge, priced, value
from planner.solve.integer import Found, Search, minimise
from planner.solve.linear import ROUNDING
from planner.solve.progress import Progress, Reporter
from planner.solve.running import Names, names_of
from planner.solve.stages.answer import decode
from planner.solve.stages.columns import columns
from planner.solve.stages.model import EXPECTED, HIGH, LOW, Homes, StageModel, Sum
from planner.solve.stages.rules import STAGE_RULES, aim

EQUAL = 1e-9
"""Relative difference below which two values count as the same."""


@dataclass(slots=True)
class Exact:
    """The incumbent and how the search went."""

    problem: Problem
    deadline: float
    gap: float
    seed: int
    workers: int
    reporter: Reporter | None = None
    started: float = field(default_factory=monotonic)
    best: Solution | None = None
    values: tuple[float, ...] = ()
    """The incumbent's objectives."""
    bounds: list[float] = field(default_factory=list)
    end: int = HIGH
    hit_time_limit: bool = False
    is_clocked: bool = False
    """A share of the time ended some step, after which the search went on: the plan depends on the
    clock."""
    is_interrupted: bool = False
    rounding: float = EQUAL
    """Relative error that integer scaling may put into a bound."""
    cutoff: float = math.inf
    """Only plans whose first objective is at most this are looked for."""
    is_certain: bool = False
    """Only plans that keep C8 at the upper end are looked for."""
    sequence: tuple[int, ...] | None = None
    """The only places of the stages, in order; None: any."""
    homes: Homes | None = None
    """The only stages of some operators."""
    work: float = math.inf
    """Deterministic seconds of each search by CP-SAT."""
    used: dict[str, None] = field(default_factory=dict)
    """Solvers that answered, in order."""
    names: Names = field(init=False)
    """The problem's parts: plans are many."""

    def __post_init__(self) -> None:
        self.names = names_of(self.problem)

    @property
    def remaining_s(self) -> float:
        """Seconds left."""
        return max(0.0, self.deadline - monotonic())

    @property
    def must_stop(self) -> bool:
        """Whether time or Ctrl-C ended the search."""
        return self.hit_time_limit or self.is_interrupted

    def offer(self, plan: Solution, strategy: str, bound: float, number: int) -> bool:
        """Takes a plan that keeps everything as the incumbent if it is better; False if it breaks
        something."""
        verdict = judge(self.problem, plan, self.names)
        totals = verdict.totals
        if verdict.broken or totals is None:
            return False
        values = tuple(value(totals, objective) for objective in self.problem.objectives)
        if self.best is None or _is_less(values, self.values):
            self.best, self.values = plan, values
            self.report(number, bound, strategy)
        return True

    def exchange(self, plan: Solution) -> bool:
        """Takes a plan that keeps everything and costs no more than the incumbent in its place:
        another start for what improves it."""
        verdict = judge(self.problem, plan, self.names)
        if verdict.broken or verdict.totals is None:
            return False
        totals = verdict.totals
        values = tuple(value(totals, objective) for objective in self.problem.objectives)
        if self.best is not None and _is_less(self.values, values):
            return False
        self.best, self.values = plan, values
        return True

    def report(self, number: int, bound: float, strategy: str) -> None:
        """Tells the reporter, if there is one."""
        if self.reporter is None:
            return
        known = self.values[number] if self.best is not None else None
        name = self.problem.objectives[number].value
        self.reporter(Progress(monotonic() - self.started, name, known, bound, strategy))


def _is_less(a: Sequence[float], b: Sequence[float]) -> bool:
    for x, y in zip(a, b, strict=True):
        if abs(x - y) > EQUAL * max(abs(x), abs(y)):
            return x < y
    return False


def build(
    problem: Problem,
    row: int,
    end: int,
    sequence: tuple[int, ...] | None = None,
    homes: Homes | None = None,
) -> StageModel:
    """The model under one setting, C8 at one end of the intervals, of any stages or of those at
    given places, and of operators anywhere or at home."""
    m = columns(problem, row, end, sequence, homes)
    for _, rule in STAGE_RULES:
        rule(m)
    return m


def search_exactly(state: Exact) -> Status:
    """Every end of the intervals until a plan exists, every objective in order."""
    is_one = state.is_certain or state.problem.limits.latency_us is None
    status = Status.UNKNOWN
    for end in (HIGH,) if is_one else (HIGH, EXPECTED, LOW):
        state.end, state.bounds = end, []
        status = _at_end(state, end)
        if status is not Status.INFEASIBLE:
            break
    return status


def _at_end(state: Exact, end: int) -> Status:
    rows = range(len(state.problem.settings))
    models = [build(state.problem, row, end, state.sequence, state.homes) for row in rows]
    is_proved = True
    for m in models if math.isfinite(state.cutoff) else ():
        first = aim(m, state.problem.objectives[0])
        m.model.at_most("cutoff", first.terms, state.cutoff - first.constant)
    for number, objective in enumerate(state.problem.objectives):
        bounds = [_minimise(state, m, objective, number) for m in models]
        bound = min(bounds, default=math.inf)
        if state.best is None:
            return (
                Status.INFEASIBLE if bound == math.inf and not state.must_stop else Status.UNKNOWN
            )
        reached = state.values[number]
        state.bounds.append(min(bound, reached))
        state.rounding = EQUAL if all(m.model.is_exact for m in models) else ROUNDING
        is_proved &= bound >= reached - max(state.gap, state.rounding) * abs(reached)
        ties = reached + state.rounding * abs(reached)
        models = [m for m, low in zip(models, bounds, strict=True) if low <= ties]
        for m in models:
            _fix(m, aim(m, objective), reached, objective)
    return Status.OPTIMAL if is_proved else Status.FEASIBLE


def _fix(m: StageModel, objective: Sum, reached: float, which: Objective) -> None:
    """From now on no worse than the value reached."""
    slack = EQUAL * abs(reached)
    rhs = reached + slack - objective.constant
    m.model.at_most(f"fixed/{which.value}", objective.terms, rhs)


def _minimise(state: Exact, m: StageModel, objective: Objective, number: int) -> float:
    """One setting: the proved bound, infinite where nothing is feasible."""
    target = aim(m, objective)
    setting = state.problem.settings[m.row].name

    def on_plan(values: list[float], bound: float) -> None:
        state.offer(decode(m, values), "CP-SAT", bound, number)

    while state.remaining_s > 0 and not state.must_stop:
        is_here = state.best is not None and state.best.setting == setting
        search = Search(
            state.remaining_s,
            state.gap,
            state.seed,
            state.workers,
            state.work,
            on_plan=on_plan,
            reached=state.values[number] if is_here else math.inf,
        )
        found = minimise(m.model, target, search)
        state.used.setdefault(found.solver)
        state.hit_time_limit |= found.answer is Answer.TIME
        state.is_interrupted |= found.answer is Answer.INTERRUPTED
        if found.values is None or state.must_stop:
            return found.bound
        if state.offer(decode(m, found.values), "CP-SAT", found.bound, number):
            return found.bound
        _forbid(m, found)
    state.hit_time_limit = True
    return -math.inf


def _forbid(m: StageModel, found: Found) -> None:
    """Cuts off one choice that the checker refused: it can never run, or broke by rounding."""
    values = found.values or []
    terms, ones = {}, 0
    for column, chosen in enumerate(values):
        if m.model.columns[column].upper == 1.0 and m.model.columns[column].unit == 1.0:
            terms[column] = 1.0 if chosen > 0.5 else -1.0
            ones += chosen > 0.5
    m.model.at_most("cut/refused", terms, ones - 1.0)


def certify(state: Exact, status: Status, seconds: float, solver: str) -> Solution:
    """The incumbent with totals, bounds and gap."""
    base = Solution(
        status,
        hit_time_limit=state.hit_time_limit or state.is_clocked,
        is_interrupted=state.is_interrupted,
        solver=solver,
        seconds=seconds,
    )
    if state.best is None:
        return base
    bounds = [*state.bounds, *(0.0 for _ in state.values[len(state.bounds) :])]
    bound = tuple(min(max(b, 0.0), v) for b, v in zip(bounds, state.values, strict=True))
    gap = (state.values[0] - bound[0]) / state.values[0] if state.values[0] > 0 else 0.0
    return replace(
        state.best,
        status=Status.FEASIBLE if status is Status.UNKNOWN else status,
        totals=priced(state.problem, state.best),
        objective=state.values,
        bound=bound,
        gap=gap,
        hit_time_limit=base.hit_time_limit,
        is_interrupted=base.is_interrupted,
        rounding=state.rounding,
        solver=solver,
        seconds=seconds,
    )
