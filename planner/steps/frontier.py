"""The trade-off curve of one model on one device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from planner.compress.base import NATIVE
from planner.errors import InfoptError, NoPlanInTimeError, UsageError
from planner.ir.problem import Objective
from planner.ir.solution import Solution, Status
from planner.solve.pareto import pareto
from planner.solve.solve import solve
from planner.spec.pareto import ParetoCurve, ParetoPoint
from planner.spec.plan import Estimate
from planner.steps.case import Case
from planner.steps.conflict import conflict_error

_POINTS = 12


AXES = {
    "latency": Objective.LATENCY,
    "memory": Objective.MEMORY,
    "error": Objective.ERROR,
    "cost": Objective.COST,
    "devices": Objective.DEVICES,
}
"""What can be traded, by the names that the user knows."""


def frontier(case: Case, axes: Sequence[str] | None, points: int = _POINTS) -> ParetoCurve:
    """The frontier of two or three axes, every limit of the request kept.

    Args:
        axes: None: latency against error, and latency against memory.

    Raises:
        UsageError: the axes cannot be traded against each other.
        ConflictError: proved, no plan keeps the limits.
        NoPlanInTimeError: the time limit ended before there was one.
    """
    solver = case.constraints.solver
    found: dict[tuple[str, ...], Solution] = {}
    for chosen in _asked(axes):
        case.work.reporter.stage(f"frontier: {' against '.join(axis.value for axis in chosen)}")
        for solution in pareto(
            case.posed.problem,
            chosen,
            points=points,
            time_limit_s=solver.time_limit_s / points,
            gap=solver.gap,
            seed=solver.seed,
        ):
            found.setdefault((*solution.chosen, solution.setting or ""), solution)
    if not found:
        raise _without_points(case)
    ranked = sorted(found.values(), key=_latency)
    warnings = (
        ["uncalibrated: errors were measured on synthetic inputs"]
        if not case.prepared.is_calibrated
        else []
    )
    return ParetoCurve(
        model=str(case.constraints.model),
        points=tuple(_point(case, number, each) for number, each in enumerate(ranked, 1)),
        axes=tuple(axes) if axes is not None else ("latency", "memory", "error"),
        warnings=tuple(warnings),
    )


def _without_points(case: Case) -> InfoptError:
    """Why nothing can be traded: no plan keeps the limits, or none was found in time."""
    problem, solver = case.posed.problem, case.constraints.solver
    found = solve(problem, time_limit_s=solver.time_limit_s, seed=solver.seed)
    if found.status is Status.INFEASIBLE:
        return conflict_error(case.constraints, problem)
    return NoPlanInTimeError(
        f"no plan was found within {solver.time_limit_s:g} s",
        fix="raise solver.time_limit, or loosen a limit",
    )


def check_axes(axes: Sequence[str] | None, names: Collection[str] = AXES) -> None:
    """Refuses axes that mean nothing, before anything is measured.

    Args:
        names: of the axes that there are.

    Raises:
        UsageError: unknown, repeated, or not two or three.
    """
    if axes is None:
        return
    known = f"name two or three of {', '.join(names)}"
    for name in axes:
        if name not in names:
            raise UsageError(f"no axis {name!r}", where="--axes", fix=known)
    if not 2 <= len(axes) <= 3 or len(set(axes)) < len(axes):
        raise UsageError(f"no frontier of {', '.join(axes)}", where="--axes", fix=known)


def _asked(axes: Sequence[str] | None) -> list[tuple[Objective, ...]]:
    """Objectives of each frontier; latency first, which a limit cannot always bound."""
    if axes is None:
        return [(Objective.LATENCY, Objective.ERROR), (Objective.LATENCY, Objective.MEMORY)]
    chosen = [AXES[name] for name in axes]
    return [tuple(sorted(chosen, key=lambda axis: axis is not Objective.LATENCY))]


def _latency(solution: Solution) -> float:
    return solution.totals.weighted_latency_us if solution.totals else 0.0


def _mean(case: Case, per_shape: Sequence[float]) -> float:
    """Over the workload."""
    shares = [shape.share for shape in case.prepared.shapes]
    return sum(share * value for share, value in zip(shares, per_shape, strict=True))


def _point(case: Case, number: int, solution: Solution) -> ParetoPoint:
    totals = solution.totals
    assert totals is not None
    assigned = case.posed.assignment(solution)
    formats = Counter(str(assigned.get(op.name, NATIVE)) for op in case.prepared.graph.ops)
    return ParetoPoint(
        name=f"P{number}",
        latency_us=Estimate(
            low=_mean(case, totals.latency_low_us),
            expected=_mean(case, totals.latency_expected_us),
            high=_mean(case, totals.latency_high_us),
            source="measured",
        ),
        memory_size_bytes=totals.memory_size_bytes,
        error=totals.error,
        formats=dict(sorted(formats.items())),
        status=solution.status.value,
        gap=solution.gap,
        price_per_hour=totals.price_per_hour,
        devices=totals.devices,
    )
