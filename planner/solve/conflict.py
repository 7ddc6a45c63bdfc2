"""Why nothing is feasible: a minimal set of limits that conflict, and the way out of each.

Deletion filter: a limit without which the rest is still infeasible is dropped for good. Of large
pipelines infeasibility is proved by multipliers (`scale.refute`), without a search; their labels
are made once and kept for all that follows. That a limit cannot be dropped is proved by a plan that
keeps the others of the set: every plan found on the way is tried for that first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import check
from planner.solve.large import is_big_pipeline, is_refuted
from planner.solve.limits import asked, with_limit
from planner.solve.nearest import Ways, farthest
from planner.solve.solve import solve


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why nothing is feasible."""

    limits: tuple[str, ...]
    """A minimal set of limits that cannot hold together: without any one of them, the others can.
    Empty where the problem is infeasible without any limit, or feasible."""
    nearest: dict[str, float | None]
    """For each, the nearest value that a plan was found for with all others kept, a certain one if
    there is any; None where there is none, or none was found in time (`open`). Of large pipelines
    the nearest within what the time allowed (`bounds`)."""
    fastest_us: float | None
    """Least latency at the SLO's percentile, upper end, with all other limits kept; None where
    those cannot be met at any latency."""
    reason: str
    open: tuple[str, ...] = ()
    """Limits for which neither a feasible value was found nor proved that there is none."""
    is_minimal: bool = True
    """Proved: for every limit of the set there is a plan that keeps its others. False: perhaps
    fewer suffice."""
    bounds: dict[str, float] = field(default_factory=dict)
    """Nothing short of this is feasible with all others kept, even at the lower ends of latencies'
    intervals: proved. Limits of which nothing is proved are left out."""


def conflict(
    problem: Problem,
    *,
    time_limit_s: float = 5.0,
    total_s: float = 60.0,
    seed: int = 0,
    workers: int = 1,
) -> Conflict:
    """A minimal set of limits that cannot hold together, and the nearest way out of each.

    Args:
        time_limit_s: limit of each re-solve.
        total_s: of everything; what comes late is not found. Large pipelines: `LARGE_TOTAL_S` at
            most.
    """
    is_large = is_big_pipeline(problem)
    until = monotonic() + (min(total_s, LARGE_TOTAL_S) if is_large else total_s)
    ways = Ways(until, time_limit_s, seed, workers, is_large=is_large)
    is_infeasible = _refuted(until) if is_large else _solved(until, time_limit_s, seed, workers)
    if not is_infeasible(problem):
        return _no_conflict(problem, ways)
    core = problem
    for name in asked(problem):
        without = with_limit(core, name, None)
        core = without if is_infeasible(without) else core
    kept = asked(core)
    if not kept:
        reason = "no plan covers all operators, whatever the limits"
        return Conflict((), {}, None, reason)
    near = {
        name: ways.nearest(problem, name, len(kept) - number) for number, name in enumerate(kept)
    }
    unknown = tuple(
        name
        for name, found in near.items()
        if found.value is None
        and not found.is_impossible
        and not is_infeasible(with_limit(problem, name, None))
    )
    is_minimal = _is_minimal(core, [found.plan for found in near.values()], ways)
    # a conflict without the latency is one at any latency
    fastest = near["latency_us"].value if "latency_us" in near else None
    verb = "cannot hold together" if len(kept) > 1 else "cannot be met"
    note = "" if is_minimal else " (perhaps fewer of them: the time ended)"
    return Conflict(
        kept,
        {name: found.value for name, found in near.items()},
        fastest,
        f"{' and '.join(kept)} {verb}{note}",
        unknown,
        is_minimal,
        {
            name: bound
            for name, found in near.items()
            if found.bound is not None
            and (bound := farthest(problem, name, found.value, [found.bound])) is not None
        },
    )


def _is_minimal(core: Problem, known: Sequence[Solution | None], ways: Ways) -> bool:
    """Whether a plan shows, for every limit of a set, that the others can hold together."""
    plans = [plan.choice for plan in known if plan is not None]
    for name in asked(core):
        without = with_limit(core, name, None)
        if any(not check(without, plan) for plan in plans):
            continue
        plan = ways.any_plan(without, 1)
        if plan is None:
            return False
        plans.append(plan.choice)
    return True


LARGE_TOTAL_S = 8.0
"""Seconds for the conflict of a large pipeline: ten with what a solve overruns."""
_Test = Callable[[Problem], bool]


def _refuted(until: float) -> _Test:
    """Whether multipliers prove that no plan keeps the limits; False where that stays open."""

    def is_infeasible(candidate: Problem) -> bool:
        if monotonic() >= until:
            return False
        return is_refuted(replace(candidate, objectives=(Objective.LATENCY,)), until)

    return is_infeasible


def _solved(until: float, time_limit_s: float, seed: int, workers: int) -> _Test:
    """Whether a search proves it."""

    def is_infeasible(candidate: Problem) -> bool:
        left_s = min(time_limit_s, until - monotonic())
        tried = replace(candidate, objectives=(Objective.LATENCY,))
        answer = solve(tried, time_limit_s=left_s, gap=1.0, seed=seed, workers=workers)
        return answer.status is Status.INFEASIBLE

    return is_infeasible


def _no_conflict(problem: Problem, ways: Ways) -> Conflict:
    """Nothing was refuted: feasible, or open."""
    fastest = ways.nearest(problem, "latency_us", 1).value
    asks_latency = problem.limits.latency_us is not None
    is_kept = fastest is not None and not (asks_latency and fastest > _limit_us(problem))
    if is_kept or not ways.is_large:
        return Conflict((), {}, fastest, "the limits do not conflict")
    reason = "no conflict of the limits was proved, and no plan that keeps them was found in time"
    return Conflict((), {}, fastest, reason)


def _limit_us(problem: Problem) -> float:
    limit = problem.limits.latency_us
    return math.inf if limit is None else limit * (1 + 1e-8)
