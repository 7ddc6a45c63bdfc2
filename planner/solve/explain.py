"""Why this plan, and why none: runner-ups, binding limits with their prices, minimal conflicts.

Everything here is a re-solve of a changed problem, so every number is as proved as the plan itself;
what is only local says so. The work is bounded by counts, not by time: the same answer every run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

from planner.ir.problem import Latency, Objective, Option, Problem, Setting
from planner.ir.solution import Solution, Status
from planner.solve.limits import STEPS, asked, relaxed, used, with_limit
from planner.solve.neighbours import Neighbours
from planner.solve.solve import solve
from planner.units import format_duration

if TYPE_CHECKING:  # loaded only for pipelines: most plans are for one device
    from planner.solve.neighbours_stages import StageNeighbours

EXACT_COLUMNS = 8_000
"""Columns that exact runner-ups may cost altogether: options times re-solves."""
GAP = 1e-4
"""Relative gap of re-solves: distances are known to a ten-thousandth of the plan's cost."""
BISECTIONS = 10
"""Steps towards the least latency of several shapes at once: 0.1 % of the first interval."""
AIMS = {
    "memory_size_bytes": Objective.MEMORY,
    "error": Objective.ERROR,
    "throughput_per_s": Objective.PERIOD,
    "devices": Objective.DEVICES,
    "price_per_hour": Objective.COST,
    "query_cost": Objective.QUERY_COST,
    "energy_j": Objective.ENERGY,
}
"""What to minimise for the nearest feasible value of a limit."""
FOUND = (Status.OPTIMAL, Status.FEASIBLE)


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """The best alternative for one operator."""

    option: str | None
    """None where no feasible plan has another format here."""
    format: str
    delta_us: float | None
    """Change of the plan's weighted expected latency."""
    delta_error: float | None
    reason: str
    """Why it lost."""
    is_exact: bool
    """True: everything else was chosen anew. False: everything else was left as it is."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A limit that costs something, and what relaxing it a little would save."""

    limit: str
    value: float
    used: float
    step: str
    """The relaxation in words, e.g. `1 ms more`."""
    objective: Objective
    """The first objective that improves without this limit."""
    saves: float
    """Improvement by the step, in the objective's unit."""
    saves_at_most: float
    """Improvement without the limit."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why nothing is feasible."""

    limits: tuple[str, ...]
    """A minimal set of limits that cannot hold together: without any one of them, the others can.
    Empty where the problem is infeasible without any limit, or feasible."""
    nearest: dict[str, float | None]
    """For each, the nearest feasible value with all others kept; None where there is none."""
    fastest_us: float | None
    """Least latency at the SLO's percentile, upper end, with all other limits kept; None where
    those cannot be met at any latency."""
    reason: str


def runner_ups(
    problem: Problem,
    solution: Solution,
    *,
    exact: int | None = None,
    time_limit_s: float = 5.0,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, RunnerUp]:
    """The best alternative format of each operator, by name.

    Args:
        exact: how many operators, slowest first, are solved anew with their format forbidden; the
            others are changed alone. Default: as many as `EXACT_COLUMNS` allows.
        time_limit_s: limit of each re-solve.
    """
    if solution.totals is None:
        return {}
    neighbours = _neighbours(problem, solution)
    options = {option.name: option for option in problem.options}
    chosen = {op: options[name] for name in solution.chosen for op in options[name].ops}
    if exact is None:
        exact = EXACT_COLUMNS // max(len(problem.options) + len(problem.conversions), 1)
    slowest = sorted(chosen, key=lambda op: (-neighbours.expected_us(chosen[op]), op))
    solved = frozenset(slowest[:exact])
    found: dict[str, RunnerUp] = {}
    for op in problem.ops:
        rivals = neighbours.rivals(op, chosen[op])
        if not rivals:
            found[op] = RunnerUp(None, "", None, None, "no other format was offered", True)
        elif op in solved:
            banned = [o.name for o in problem.options if op in o.ops and o not in rivals]
            other = _without(problem, banned, time_limit_s, seed, workers)
            found[op] = _compared(solution, other, op, options, rivals)
        else:
            found[op] = _local(neighbours, chosen[op], op, rivals)
    return found


def _without(
    problem: Problem, banned: Iterable[str], time_limit_s: float, seed: int, workers: int
) -> Solution:
    cuts = tuple(frozenset((name,)) for name in banned)
    order = problem.objectives
    if Objective.LATENCY in order:
        order = order[: order.index(Objective.LATENCY) + 1]
    changed = replace(problem, forbidden=(*problem.forbidden, *cuts), objectives=order)
    return solve(changed, time_limit_s=time_limit_s, gap=GAP, seed=seed, workers=workers)


def _compared(
    solution: Solution, other: Solution, op: str, options: dict[str, Option], rivals: list[Option]
) -> RunnerUp:
    if other.totals is None or solution.totals is None:
        label = rivals[0].format
        known = other.status is Status.INFEASIBLE
        reason = "no plan with another format keeps the limits" if known else "not found in time"
        return RunnerUp(None, label, None, None, reason, known)
    option = next(options[name] for name in other.chosen if op in options[name].ops)
    delta_us = other.totals.weighted_latency_us - solution.totals.weighted_latency_us
    delta_error = other.totals.error - solution.totals.error
    reason = _reason(delta_us, delta_error)
    if solution.is_uncertain < other.is_uncertain:
        reason = f"keeps the latency limit less surely; {reason}"
    return RunnerUp(option.name, option.format, delta_us, delta_error, reason, True)


def _reason(delta_us: float, delta_error: float) -> str:
    if delta_us > 1e-9:
        return f"the best plan with it is {format_duration(delta_us)} slower"
    if delta_error > 0:
        return f"no faster, and adds {delta_error:.3g} to the error"
    return "no better: another objective or a tie decided"


def _neighbours(problem: Problem, solution: Solution) -> Neighbours | StageNeighbours:
    if not problem.places:
        return Neighbours(problem, solution)
    from planner.solve.neighbours_stages import StageNeighbours

    return StageNeighbours(problem, solution)


def _is_big_pipeline(problem: Problem) -> bool:
    if not problem.places or problem.assignment is not None:
        return False
    from planner.solve.stages.solve import is_big

    return is_big(problem)


def _is_refuted(problem: Problem, deadline: float) -> bool:
    from planner.solve.scale.solve import is_refuted_at_all_ends

    return is_refuted_at_all_ends(problem, deadline)


def _local(
    neighbours: Neighbours | StageNeighbours, chosen: Option, op: str, rivals: list[Option]
) -> RunnerUp:
    swaps = [neighbours.swap(chosen, op, rival) for rival in rivals]
    possible = [swap for swap in swaps if swap is not None]
    note = "with everything else unchanged"
    if not possible:
        return RunnerUp(None, rivals[0].format, None, None, f"does not fit {note}", False)
    best = min(possible, key=lambda swap: (bool(swap.broken), swap.delta_us, swap.option.name))
    if best.broken:
        reason = f"breaks {best.broken} {note}"
    else:
        reason = f"{_reason(best.delta_us, best.delta_error)} {note}"
    label = best.option.format
    return RunnerUp(best.option.name, label, best.delta_us, best.delta_error, reason, False)


def binding(
    problem: Problem,
    solution: Solution,
    *,
    time_limit_s: float = 5.0,
    gap: float = GAP,
    seed: int = 0,
    workers: int = 1,
) -> tuple[Binding, ...]:
    """The limits that make the plan worse than it could be, each with its price, by re-solving."""
    found = []
    for name in asked(problem):
        free = with_limit(problem, name, None)
        best = solve(free, time_limit_s=time_limit_s, gap=gap, seed=seed, workers=workers)
        number = _improves(solution, best, 2 * gap)
        if number is None:
            continue
        step = relaxed(problem, name)
        eased = solve(step, time_limit_s=time_limit_s, gap=gap, seed=seed, workers=workers)
        found.append(
            Binding(
                limit=name,
                value=float(getattr(problem.limits, name)),
                used=used(problem, solution, name),
                step=STEPS[name].words,
                objective=problem.objectives[number],
                saves=_saved(solution, eased, number),
                saves_at_most=_saved(solution, best, number),
            )
        )
    return tuple(found)


def _improves(solution: Solution, other: Solution, tolerance: float) -> int | None:
    """Number of the first objective in which another solution is better; None where it is not."""
    pairs = zip(solution.objective, other.objective, strict=False)
    for number, (ours, theirs) in enumerate(pairs):
        if abs(ours - theirs) > tolerance * max(abs(ours), abs(theirs)):
            return number if theirs < ours else None
    return None


def _saved(solution: Solution, other: Solution, number: int) -> float:
    if len(other.objective) <= number:
        return 0.0
    return max(0.0, solution.objective[number] - other.objective[number])


def conflict(
    problem: Problem,
    *,
    time_limit_s: float = 5.0,
    total_s: float = 60.0,
    seed: int = 0,
    workers: int = 1,
) -> Conflict:
    """A minimal set of limits that cannot hold together, and the nearest way out of each.

    Deletion filter: a limit without which the rest is still infeasible is dropped for good. Of
    large pipelines infeasibility is proved by multipliers (`scale.refute`), without a search.

    Args:
        time_limit_s: limit of each re-solve.
        total_s: of everything; what comes late is not found.
    """
    until = monotonic() + total_s
    is_large = _is_big_pipeline(problem)

    def is_infeasible(candidate: Problem) -> bool:
        left_s = min(time_limit_s, until - monotonic())
        tried = replace(candidate, objectives=(Objective.LATENCY,))
        if is_large:
            return _is_refuted(tried, monotonic() + left_s)
        answer = solve(tried, time_limit_s=left_s, gap=1.0, seed=seed, workers=workers)
        return answer.status is Status.INFEASIBLE

    def share_s(parts: int) -> float:
        return max(0.0, min(time_limit_s, (until - monotonic()) / parts))

    names = asked(problem)
    if not is_infeasible(problem):
        fastest = _nearest_latency(problem, share_s(1), seed, workers)
        return Conflict((), {}, fastest, "the limits do not conflict")
    core = problem
    for name in names:
        without = with_limit(core, name, None)
        core = without if is_infeasible(without) else core
    kept = asked(core)
    if not kept:
        reason = "no plan covers all operators, whatever the limits"
        return Conflict((), {}, None, reason)
    nearest: dict[str, float | None] = {}
    for number, name in enumerate(kept):
        nearest[name] = _nearest(problem, name, share_s(len(kept) - number), seed, workers)
    fastest = nearest.get("latency_us")
    if "latency_us" not in nearest:
        fastest = _nearest_latency(problem, share_s(1), seed, workers)
    verb = "cannot hold together" if len(kept) > 1 else "cannot be met"
    return Conflict(kept, nearest, fastest, f"{' and '.join(kept)} {verb}")


def _nearest(
    problem: Problem, name: str, time_limit_s: float, seed: int, workers: int
) -> float | None:
    """The nearest feasible value of one limit with all others kept."""
    if name == "latency_us":
        return _nearest_latency(problem, time_limit_s, seed, workers)
    aim = AIMS[name]
    free = replace(with_limit(problem, name, None), objectives=(aim,))
    best = solve(free, time_limit_s=time_limit_s, gap=GAP, seed=seed, workers=workers)
    return used(free, best, name) if best.totals is not None else None


def _nearest_latency(
    problem: Problem, time_limit_s: float, seed: int, workers: int
) -> float | None:
    """Least upper-end latency at the SLO's percentile over all shapes, the other limits kept.

    With one shape and no throughput limit it is linear and solved exactly; otherwise by bisection
    over the limit, each step ending at a plan's own value.
    """
    free = replace(with_limit(problem, "latency_us", None), objectives=(Objective.LATENCY,))
    if _is_big_pipeline(problem):
        best = solve(free, time_limit_s=time_limit_s, gap=1e-2, seed=seed, workers=workers)
        return used(free, best, "latency_us") if best.totals is not None else None
    if len(problem.shape_weights) == 1 and problem.limits.throughput_per_s is None:
        tails = _tails(free)
        best = solve(tails, time_limit_s=time_limit_s, gap=GAP, seed=seed, workers=workers)
        return used(tails, best, "latency_us") if best.totals is not None else None
    best = solve(free, time_limit_s=time_limit_s, gap=1e-3, seed=seed, workers=workers)
    if best.totals is None:
        return None
    low, high = 0.0, used(free, best, "latency_us")
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tried = with_limit(free, "latency_us", middle)
        answer = solve(tried, time_limit_s=time_limit_s, gap=1.0, seed=seed, workers=workers)
        if answer.totals is None or answer.is_uncertain:
            low = middle
        else:
            high = used(tried, answer, "latency_us")
    return high


def _tails(problem: Problem) -> Problem:
    """The problem, of one shape, with every latency replaced by its upper end at the SLO's
    percentile."""

    def tailed(cell: Latency | None, setting: Setting) -> Latency | None:
        if cell is None:
            return None
        high = cell.high_us * setting.tail(0)
        return Latency(high, high, high)

    def table(
        rows: tuple[tuple[Latency | None, ...], ...],
    ) -> tuple[tuple[Latency | None, ...], ...]:
        pairs = zip(rows, problem.settings, strict=True)
        return tuple(tuple(tailed(cell, setting) for cell in row) for row, setting in pairs)

    settings = tuple(
        replace(
            setting,
            overhead=tuple(cell for o in setting.overhead if (cell := tailed(o, setting))),
            tail_factors=(),
        )
        for setting in problem.settings
    )
    return replace(
        problem,
        options=tuple(replace(o, latency=table(o.latency)) for o in problem.options),
        conversions=tuple(replace(c, latency=table(c.latency)) for c in problem.conversions),
        settings=settings,
        shape_weights=(1.0,),
    )
