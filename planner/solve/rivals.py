"""The best alternative for each operator, and why it lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planner.ir.problem import Objective, Option, Problem
from planner.ir.solution import Solution, Status
from planner.solve.neighbours import Neighbours
from planner.solve.solve import solve
from planner.units import format_duration

if TYPE_CHECKING:  # loaded only for pipelines: most plans are for one device
    from planner.solve.neighbours_stages import StageNeighbours

EXACT_COLUMNS = 8_000
"""Columns that exact runner-ups may cost altogether: options times re-solves."""
GAP = 1e-4
"""Relative gap of re-solves: distances are known to a ten-thousandth of the plan's cost."""


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
