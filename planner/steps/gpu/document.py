"""plan.json of a plan for this machine's GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from planner.compress.base import NATIVE
from planner.runtime.fingerprint import gpu_environment
from planner.spec.constraints import Constraints
from planner.spec.plan import (
    AccuracyReport,
    Decision,
    Estimate,
    GuardReport,
    ModelRef,
    Plan,
    Prediction,
    SolverReport,
    Timing,
)
from planner.steps.prepare import Prepared

if TYPE_CHECKING:
    from planner.steps.gpu.plan import Way

ON_CPU = "ONNX Runtime has no kernel on the GPU, and uses the CPU, for"
"""How a plan's warning begins that names such operators."""
_SPREAD = 0.15
"""Of whole calls between processes on the same GPU."""


def document(
    constraints: Constraints,
    prepared: Prepared,
    way: Way,
    guard: GuardReport,
    notes: tuple[str, ...],
) -> Plan:
    """The plan, without its digest."""
    is_plain = guard.shipped == "plain"
    formats = {} if is_plain else {op: str(form) for op, form in sorted(way.formats.items())}
    graph = way.settings.cuda_graph and not is_plain
    predicted_us = _predicted_us(prepared, way, guard)
    loaded = prepared.loaded
    return Plan(
        model=ModelRef(
            path=str(constraints.model),
            sha256=loaded.sha256,
            size_bytes=loaded.size_bytes,
            ops=len(prepared.graph.ops),
            parameters=loaded.parameters,
        ),
        environment=gpu_environment(),
        workload=tuple(shape.recorded for shape in prepared.shapes),
        promise=constraints.promise,
        shipped="plain" if is_plain else "uniform",
        settings=way.settings.model_copy(update={"cuda_graph": graph}),
        simplified=prepared.is_simplified and not is_plain,
        formats=formats,
        decisions=_decisions(prepared, way, formats, guard),
        solver=_solver(
            sum(shape.share * predicted_us[shape.name] for shape in prepared.shapes),
            len(guard.timings),
        ),
        prediction=_prediction(predicted_us, prepared, way, guard),
        accuracy=AccuracyReport(
            calibrated=prepared.is_calibrated,
            samples=min(samples.valid for samples in prepared.samples),
            predicted_error=way.error if formats else 0.0,
            measured_error=way.error if formats else 0.0,
            verdict="not asked" if constraints.accuracy.max_error is None else "kept",
            basis="measured" if formats else "proved",
        ),
        guard=guard,
        warnings=(*prepared.notes, *notes),
    )


def _timing(guard: GuardReport) -> Timing:
    """Of what ships."""
    return next(found for found in guard.timings if found.name == guard.shipped)


def _predicted_us(prepared: Prepared, way: Way, guard: GuardReport) -> dict[str, float]:
    """A call's p50, by workload shape: what the race measured, where plain ONNX Runtime ships."""
    if guard.shipped == "plain":
        return {name: found.p50_us for name, found in _timing(guard).shapes.items()}
    pairs = zip(prepared.shapes, way.found, strict=True)
    return {shape.name: used.call_us for shape, used in pairs}


def _prediction(
    predicted_us: Mapping[str, float], prepared: Prepared, way: Way, guard: GuardReport
) -> Prediction:
    """Tails are as far from medians as the race saw them."""
    predicted = {name: _estimate(us) for name, us in predicted_us.items()}
    tails = {name: found.slo_us / found.p50_us for name, found in _timing(guard).shapes.items()}
    return Prediction(
        latency_p50_us=predicted,
        latency_slo_us={name: found.scaled(tails[name]) for name, found in predicted.items()},
        memory_size_bytes=_memory(prepared),
        error=Estimate(low=0.0, expected=way.error, high=4 * way.error, source="measured"),
    )


def _estimate(us: float) -> Estimate:
    return Estimate(low=us * (1 - _SPREAD), expected=us, high=us * (1 + _SPREAD), source="measured")


def _memory(prepared: Prepared) -> Estimate:
    size = float(prepared.graph.weights_size_bytes)
    return Estimate(low=size, expected=size * 1.1, high=size * 2, source="modelled")


def _decisions(
    prepared: Prepared, way: Way, formats: dict[str, str], guard: GuardReport
) -> tuple[Decision, ...]:
    """An operator's time is that of its kind's kernels, shared by all of the kind."""
    by_kind = way.found[0].by_operator_us
    count: dict[str, int] = {}
    for op in prepared.graph.ops:
        count[op.op_type] = count.get(op.op_type, 0) + 1
    return tuple(
        Decision(
            op=op.name,
            op_type=op.kind,
            group=op.name,
            format=formats.get(op.name, str(NATIVE)),
            predicted_us=by_kind.get(op.op_type, 0.0) / count[op.op_type],
            error=0.0,
            reason=f"{guard.shipped} ships: see guard",
        )
        for op in prepared.graph.ops
    )


def _solver(objective: float, options: int) -> SolverReport:
    return SolverReport(
        status="optimal",
        solver="all ways measured",
        objectives=("latency",),
        objective=(objective,),
        bound=(objective,),
        gap=0.0,
        seed=0,
        hit_time_limit=False,
        options=options,
        settings=1,
        rounds=1,
    )
