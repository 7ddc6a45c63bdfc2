"""`solve_pairwise(problem)`: presolve, bounds and plans by messages, proof by solvers, a check."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from time import monotonic

from planner.errors import InfoptError
from planner.ir.solution import Status
from planner.solve.backend import Answer
from planner.solve.data import IntArray
from planner.solve.pairwise.bound import Left
from planner.solve.pairwise.check import evaluate
from planner.solve.pairwise.data import FORBIDDEN, Pairwise, validate
from planner.solve.pairwise.dual import Dual
from planner.solve.pairwise.linear import (
    PRECISION,
    Outcome,
    ask_cpsat,
    ask_highs,
    minimise,
)
from planner.solve.pairwise.presolve import Core, cheaper, presolve
from planner.solve.progress import Progress, Reporter, relative_gap

EXACT = 120_000
"""Finite pair costs up to which HiGHS is asked for the proof."""
FEW = 3_000
"""Finite pair costs left at which HiGHS is asked at once."""
SHRUNK = 0.5
"""Share of the finite pair costs of a larger problem whose loss is worth a new start."""
SOON = 2
"""Rounds between two looks at what is left, where HiGHS will be asked,"""
LATER = 25
"""and where not."""
SHARE = 0.7
"""Share of the time left that HiGHS gets; without an answer, the rest is for better plans."""
PATIENCE = 8
"""Rounds in which the gap must shrink by a share of `PROGRESS`, else HiGHS is asked."""
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
    def must_stop(self) -> bool:
        return self.hit_time_limit or self.is_interrupted

    @property
    def is_proved(self) -> bool:
        if math.isinf(self.value):
            return self.bound == math.inf
        if self.bound > self.value - 1:  # integers: exact, whatever their size
            return True
        return self.gap > 0 and self.bound >= self.value - self.gap * abs(self.value)

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
    core = presolve(search.problem, search.deadline)
    search.presolve_s = monotonic() - search.started
    while True:
        if not core.is_feasible:
            search.take(None, search.value, search.value, "messages")
            return
        if search.remaining_s <= 0:
            search.hit_time_limit = True
            return
        dual = Dual(core.problem, seed, search.deadline)
        left = _narrow(search, core, dual)
        if left is None:
            return
        if left.pairs <= EXACT:
            _prove(search, core, dual, seed)
            while not search.is_proved and not search.is_interrupted and search.remaining_s > 0:
                _round(search, core, dual)
            return
        core = cheaper(core, left.problem, left.options, search.deadline)


def _narrow(search: _Search, core: Core, dual: Dual) -> Left | None:
    """Rounds until what is left is worth another start, or HiGHS; None: there is nothing to do."""
    is_small = _open_pairs(core.problem) <= EXACT
    history: list[float] = []
    while not search.is_proved:
        if search.remaining_s <= 0:
            search.hit_time_limit = True
            return None
        _round(search, core, dual)
        history.append(search.value - search.bound)
        if len(history) % (SOON if is_small else LATER):
            continue
        left = dual.below(search.value)
        if left.pairs <= (FEW if is_small else SHRUNK * _open_pairs(core.problem)):
            return left
        if is_small and _is_stuck(history):
            return left
    return None


def _round(search: _Search, core: Core, dual: Dual) -> None:
    known = dual.value
    dual.round()
    plan = core.lift(dual.best) if dual.best is not None and dual.value < known else None
    search.take(plan, dual.value, dual.proved, "messages")


def _is_stuck(history: list[float]) -> bool:
    if len(history) <= PATIENCE:
        return False
    before, now = history[-1 - PATIENCE], history[-1]
    return not math.isfinite(now) or now > (1 - PROGRESS) * before


def _open_pairs(problem: Pairwise) -> int:
    return int((problem.pairs < FORBIDDEN).sum())


def _prove(search: _Search, core: Core, dual: Dual, seed: int) -> None:
    """HiGHS, then CP-SAT, each over what a plan cheaper than the best known may use.

    What HiGHS claims counts only where CP-SAT, whose integers are exact, does not get to the end.
    """
    claimed = -math.inf
    for name, solver, share in (("HiGHS", ask_highs, SHARE), ("CP-SAT", ask_cpsat, 1.0)):
        left = dual.below(search.value)
        rest = cheaper(core, left.problem, left.options, search.deadline)
        if search.remaining_s <= 0:  # the rest may be half reduced
            search.hit_time_limit = True
            break
        if not rest.is_feasible:
            search.take(None, math.inf, search.value, "messages")
            return
        outcome = minimise(rest.problem, dual.moments, share * search.remaining_s, solver, seed)
        _take(search, rest, outcome, name)
        is_answered = outcome.answer in (Answer.OPTIMAL, Answer.INFEASIBLE)
        if is_answered and outcome.rounding == 0:
            search.take(None, math.inf, search.value, name)
            return
        claimed = max(claimed, search.value if is_answered else outcome.bound)
        if search.must_stop:
            break
    if claimed > search.bound:
        search.rounding = PRECISION
        search.take(None, math.inf, claimed, "HiGHS")


def _take(search: _Search, rest: Core, outcome: Outcome, name: str) -> None:
    """A solver's plan, evaluated on the original problem."""
    search.used = f"{search.used} + {name}"
    search.hit_time_limit |= outcome.answer is Answer.TIME
    search.is_interrupted |= outcome.answer is Answer.INTERRUPTED
    if outcome.plan is None:
        return
    plan = rest.lift(outcome.plan)
    found = evaluate(search.problem, plan.tolist())
    if not found.complaint:
        search.take(plan, found.cost, search.bound, name)


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
