"""`solve_pairwise(problem)`: presolve, bounds and plans by messages, proof by HiGHS, a check."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from time import monotonic

from planner.errors import InfoptError
from planner.ir.solution import Status
from planner.solve.backend import Answer
from planner.solve.data import IntArray
from planner.solve.pairwise.bound import without
from planner.solve.pairwise.check import evaluate
from planner.solve.pairwise.data import FORBIDDEN, Pairwise, validate
from planner.solve.pairwise.dual import Dual
from planner.solve.pairwise.linear import minimise
from planner.solve.pairwise.presolve import Core, cheaper, presolve
from planner.solve.progress import Progress, Reporter, relative_gap

EXACT = 120_000
"""Finite pair costs up to which HiGHS is asked for the proof."""
PATIENCE = 15
"""Rounds after which the gap must have shrunk by a share of `PROGRESS`, else HiGHS is asked."""
PROGRESS = 0.1


@dataclass(frozen=True, slots=True)
class PairwiseSolution:
    """A plan with its certificate."""

    status: Status
    chosen: tuple[int, ...] = ()
    """Option of each node."""
    cost: int | None = None
    bound: float = -math.inf
    """Proved: no plan costs less."""
    peak: int = 0
    """Largest memory in use."""
    hit_time_limit: bool = False
    """True when wall-clock time ended the search: the answer may differ between runs."""
    is_interrupted: bool = False
    rounding: float = 0.0
    """Relative error the bound may have: HiGHS's tolerance; 0 where integers proved it."""
    solver: str = "messages"
    seconds: float = 0.0
    presolve_seconds: float = 0.0

    @property
    def gap(self) -> float | None:
        """(cost - bound) / cost; None without a plan."""
        return relative_gap(self.cost, self.bound)


@dataclass(slots=True)
class _Search:
    """The incumbent of one solve."""

    problem: Pairwise
    started: float
    deadline: float
    gap: float
    reporter: Reporter | None
    plan: IntArray | None = None
    """Of the original problem."""
    value: float = math.inf
    bound: float = -math.inf
    rounding: float = 0.0
    used: str = "messages"
    presolve_s: float = 0.0
    hit_time_limit: bool = False
    is_interrupted: bool = False

    @property
    def remaining_s(self) -> float:
        return max(0.0, self.deadline - monotonic())

    @property
    def is_proved(self) -> bool:
        if math.isinf(self.value):
            return self.bound == math.inf
        return self.bound > self.value - 1 or self.bound >= self.value - self.gap * abs(self.value)

    def take(self, plan: IntArray | None, value: float, bound: float, strategy: str) -> None:
        """Whatever is better than what is known."""
        is_news = value < self.value or bound > self.bound
        if plan is not None and value < self.value:
            self.plan, self.value = plan, value
        self.bound = max(self.bound, min(bound, self.value))
        if self.reporter is None or not is_news:
            return
        known = self.value if math.isfinite(self.value) else None
        self.reporter(Progress(monotonic() - self.started, "cost", known, self.bound, strategy))


def solve_pairwise(
    problem: Pairwise,
    *,
    time_limit_s: float = 60.0,
    gap: float = 0.0,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> PairwiseSolution:
    """The best plan found, checked, with a proved bound.

    Args:
        time_limit_s: wall-clock limit.
        gap: relative gap at which the search may stop.
        seed: same problem, seed and versions give the same answer unless time ended the search.
        reporter: receives progress.

    Ctrl-C returns the incumbent, marked `is_interrupted`.

    Raises:
        UsageError: the problem makes no sense (see `validate`).
    """
    started = monotonic()
    validate(problem)
    search = _Search(problem, started, started + time_limit_s, gap, reporter)
    try:
        _run(search, seed)
    except KeyboardInterrupt:
        search.is_interrupted = True
    return _certified(search)


def _run(search: _Search, seed: int) -> None:
    core = presolve(search.problem)
    search.presolve_s = monotonic() - search.started
    if not core.is_feasible:
        search.bound = math.inf
        return
    dual = Dual(core.problem, seed)
    is_small = _open_pairs(core.problem) <= EXACT
    history: list[float] = []
    while not search.is_proved:
        if search.remaining_s <= 0:
            search.hit_time_limit = True
            return
        known = dual.value
        dual.round()
        plan = core.lift(dual.best) if dual.best is not None and dual.value < known else None
        search.take(plan, dual.value, dual.proved, "messages")
        history.append(_distance(search))
        if is_small and _is_stuck(history):
            _prove(search, core, dual)
            return


def _distance(search: _Search) -> float:
    return search.value - search.bound


def _is_stuck(history: list[float]) -> bool:
    if len(history) <= PATIENCE:
        return False
    before, now = history[-1 - PATIENCE], history[-1]
    return not math.isfinite(now) or now > (1 - PROGRESS) * before


def _open_pairs(problem: Pairwise) -> int:
    return int((problem.pairs < FORBIDDEN).sum())


def _prove(search: _Search, core: Core, dual: Dual) -> None:
    """HiGHS over what a better plan may use."""
    if dual.bound is not None and dual.best is not None:
        core = cheaper(core, *without(core.problem, dual.bound, int(dual.value)))
        if not core.is_feasible:
            search.take(None, search.value, search.value, "messages")
            return
    search.used = "messages + HiGHS"
    outcome = minimise(core.problem, dual.moments, search.remaining_s)
    bound = min(outcome.bound, search.value)
    search.rounding = 1e-6
    if outcome.plan is not None:
        plan = core.lift(outcome.plan)
        found = evaluate(search.problem, plan.tolist())
        if not found.complaint:
            search.take(plan, found.cost, bound, "HiGHS")
    if outcome.answer is Answer.OPTIMAL:
        bound = search.value
    search.hit_time_limit |= outcome.answer is Answer.TIME
    search.take(None, search.value, bound, "HiGHS")


def _certified(search: _Search) -> PairwiseSolution:
    """The answer, after the checker has seen it."""
    base = PairwiseSolution(
        Status.UNKNOWN,
        bound=search.bound,
        hit_time_limit=search.hit_time_limit,
        is_interrupted=search.is_interrupted,
        rounding=search.rounding,
        solver=search.used,
        seconds=monotonic() - search.started,
        presolve_seconds=search.presolve_s,
    )
    if search.plan is None:
        status = Status.INFEASIBLE if search.bound == math.inf else Status.UNKNOWN
        return replace(base, status=status)
    chosen = tuple(search.plan.tolist())
    found = evaluate(search.problem, chosen)
    if found.complaint or found.cost != search.value:
        raise InfoptError(f"the checker refuses the answer: {found.complaint or found.cost}")
    status = Status.OPTIMAL if search.is_proved else Status.FEASIBLE
    return replace(base, status=status, chosen=chosen, cost=found.cost, peak=found.peak)
