"""Solve, build, measure the accuracy of what was built; tighten and solve again until it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.compress.accuracy import Comparison
from planner.compress.base import NATIVE, Format
from planner.errors import NoPlanInTimeError
from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.progress import Progress
from planner.spec.plan import Estimate
from planner.steps.accuracy import Accuracy, Measured
from planner.steps.case import Case
from planner.steps.choose import with_error_limit
from planner.steps.conflict import conflict_error
from planner.steps.variants import Variant, make_variant

_MOST_ROUNDS = 8
LOOSE_ERROR = 0.3
"""First budget where only a drop of a metric is limited: the metric then tightens it."""
_SHRINK = 0.9
"""A re-solve aims this far inside the budget that the built plan broke."""
_METRIC_SHRINK = 0.35
"""Budget of the next round relative to the error of a plan whose metric fell too far."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A built plan within its accuracy budget, not yet timed as a whole."""

    solution: Solution
    problem: Problem
    """The problem of the last round, with the error budget that held."""
    variant: Variant
    setting: int
    predicted: tuple[Estimate, ...]
    """p50 of the whole per workload shape, microseconds."""
    predicted_error: float
    measured: Measured
    rounds: int
    refused: Comparison | None
    """The last compression whose drop was broken or could not be proved."""
    basis: str
    """What the error bound rests on."""


def settle(case: Case, probes: Sequence[tuple[float, float]]) -> Settled:
    """The best plan whose built model keeps the accuracy budget.

    Args:
        probes: (sum of sensitivities, measured joint error) of whole variants.

    Raises:
        ConflictError: proved, with the limits that conflict and the nearest feasible values.
        NoPlanInTimeError: the time limit ended first.
    """
    accuracy = case.accuracy
    model = accuracy.model(probes)
    allowed = case.constraints.accuracy.max_error or LOOSE_ERROR
    limit = allowed / model.scale
    refused: Comparison | None = None
    for number in range(1, _MOST_ROUNDS + 1):
        budget = limit if number < _MOST_ROUNDS else 0.0
        problem = with_error_limit(case.posed.problem, budget)
        solution = _solved(case, problem, number, is_tightened=refused is not None)
        setting = case.posed.sessions[solution.setting or ""]
        variant = _built(case, solution, setting)
        measured = accuracy.measure(variant)
        summed = solution.totals.error if solution.totals else 0.0
        if accuracy.keeps(measured):
            predicted = case.pricing.predict(variant, setting)
            expected = model.scale * summed
            return Settled(
                solution, problem, variant, setting, predicted, expected, measured, number,
                refused, model.basis,
            )  # fmt: skip
        if measured.comparison is not None and measured.comparison.verdict != "kept":
            refused = measured.comparison
        limit = tighter(allowed, summed, measured, accuracy)
        case.work.reporter.note(_why_again(measured, allowed))
    raise AssertionError("a plan without any compression changes no answer")


def tighter(allowed: float, summed: float, measured: Measured, accuracy: Accuracy) -> float:
    """The budget of the next round, on sums of sensitivities."""
    broken = accuracy.budget.max_error is not None and measured.error > allowed
    if broken:
        return _SHRINK * summed * allowed / measured.error
    return _METRIC_SHRINK * summed


def _why_again(measured: Measured, allowed: float) -> str:
    comparison = measured.comparison
    if comparison is not None and comparison.verdict != "kept":
        return f"the metric's drop of {comparison.drop:.4g} is {comparison.verdict}: solving again"
    return f"joint error {measured.error:.3g} exceeds {allowed:.3g}: solving again, tighter"


def _solved(case: Case, problem: Problem, number: int, *, is_tightened: bool) -> Solution:
    # Solvers take a second to load and 60 MB: not while kernels are timed.
    from planner.solve.solve import solve

    work, solver = case.work, case.constraints.solver
    work.reporter.stage("solve" if number == 1 else f"solve (round {number})")

    def hear(progress: Progress) -> None:
        if progress.incumbent is not None:
            work.reporter.incumbent(progress.incumbent, progress.bound)

    solution = solve(
        problem,
        time_limit_s=solver.time_limit_s,
        gap=solver.gap,
        seed=solver.seed,
        reporter=hear,
    )
    if solution.status is Status.INFEASIBLE:
        raise conflict_error(case.constraints, problem, is_tightened=is_tightened)
    if solution.status is Status.UNKNOWN:
        raise NoPlanInTimeError(
            f"no plan was found within {solver.time_limit_s:g} s",
            fix="raise solver.time_limit, or loosen a limit",
        )
    return solution


def _built(case: Case, solution: Solution, setting: int) -> Variant:
    session = case.pricing.settings[setting].session
    assignment: dict[str, Format] = case.posed.assignment(solution)
    needed = {op: form for op, form in assignment.items() if form != NATIVE}
    variant = make_variant(
        case.prepared, case.choices.calibration, needed, "plan", session.graph_level, case.work
    )
    shares = [case.posed.shares(solution, n) for n in range(len(case.prepared.shapes))]
    case.pricing.extend(variant, session.intra_op_threads, shares)
    return variant
