"""The trade-off curve of one model on one device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from planner.compress.base import NATIVE
from planner.ir.problem import Objective
from planner.ir.solution import Solution
from planner.solve.pareto import pareto
from planner.spec.pareto import ParetoCurve, ParetoPoint
from planner.spec.plan import Estimate
from planner.steps.case import Case

_POINTS = 12


def frontier(case: Case) -> ParetoCurve:
    """Latency against error and latency against memory, every limit of the request kept."""
    solver = case.constraints.solver
    found: dict[tuple[str, ...], Solution] = {}
    for second in (Objective.ERROR, Objective.MEMORY):
        case.work.reporter.stage(f"frontier: latency against {second.value}")
        for solution in pareto(
            case.posed.problem,
            (Objective.LATENCY, second),
            points=_POINTS,
            time_limit_s=solver.time_limit_s / _POINTS,
            gap=solver.gap,
            seed=solver.seed,
        ):
            found.setdefault((*solution.chosen, solution.setting or ""), solution)
    ranked = sorted(found.values(), key=_latency)
    warnings = (
        ["uncalibrated: errors were measured on synthetic inputs"]
        if not case.prepared.is_calibrated
        else []
    )
    return ParetoCurve(
        model=str(case.constraints.model),
        points=tuple(_point(case, number, each) for number, each in enumerate(ranked, 1)),
        warnings=tuple(warnings),
    )


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
    )
