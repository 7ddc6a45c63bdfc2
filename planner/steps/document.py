"""plan.json: what was decided, in words and numbers that can be checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.compress.base import NATIVE, Format
from planner.cost.state import State
from planner.cost.tempo import Feeling
from planner.fuse.options import Variant as PricedVariant
from planner.spec.plan import (
    AccuracyReport,
    Decision,
    Estimate,
    ModelRef,
    Plan,
    Prediction,
    Rejected,
    RunnerUp,
    SolverReport,
)
from planner.spec.session import SessionSettings
from planner.steps.case import Case
from planner.steps.choices import Choices, smoothing_of
from planner.steps.contest import Outcome
from planner.steps.foremost import foremost
from planner.steps.settle import Settled
from planner.steps.variants import Variant
from planner.units import format_duration

if TYPE_CHECKING:
    from planner.solve.explain import RunnerUp as SolverRunnerUp


@dataclass(frozen=True, slots=True)
class Material:
    """All that a plan document is made of."""

    case: Case
    settled: Settled
    outcome: Outcome
    shipped: Variant
    """The winner's variant; the native one where plain ONNX Runtime won."""
    cut: PricedVariant
    """The shipped variant's regions and prices."""
    session: SessionSettings
    setting: int
    predicted: tuple[Estimate, ...]
    """p50 per workload shape, microseconds."""
    tail_factors: tuple[float, ...]
    accuracy: AccuracyReport
    state: State
    felt: Feeling
    memory_size_bytes: int


def document(material: Material) -> Plan:
    """The plan, without its digest."""
    winner = material.outcome.winner
    formats = {op: str(form) for op, form in sorted(material.shipped.realised.items())}
    shapes = material.case.prepared.shapes
    predicted = {shape.name: found for shape, found in zip(shapes, material.predicted, strict=True)}
    tails = {shape.name: tail for shape, tail in zip(shapes, material.tail_factors, strict=True)}
    return Plan(
        model=_model(material),
        environment=material.case.bench.environment,
        workload=tuple(shape.recorded for shape in shapes),
        promise=material.case.constraints.promise,
        shipped=winner.kind if winner else "plain",
        settings=material.session,
        simplified=winner is not None and material.case.prepared.is_simplified,
        formats=formats,
        ranges=ranges_of(material.case.choices, material.shipped.realised),
        smoothing=smoothing_of(material.case.choices.smoothing, material.shipped.realised),
        decisions=_decisions(material),
        solver=_solver(material),
        prediction=Prediction(
            latency_p50_us=predicted,
            latency_slo_us={name: found.scaled(tails[name]) for name, found in predicted.items()},
            memory_size_bytes=_memory(material),
            error=error_estimate(material.accuracy.predicted_error),
        ),
        accuracy=material.accuracy,
        guard=material.outcome.report,
        machine_state_us=material.state.pool_us,
        machine_alone_us=material.state.alone_us or None,
        machine_exponent=material.felt.late,
        machine_pace_exponent=material.felt.pace,
        rejected=tuple(
            Rejected(op=found.op, format=str(found.format), reason=found.reason)
            for found in material.case.choices.rejections
        ),
        warnings=_warnings(material),
    )


def _model(material: Material) -> ModelRef:
    loaded = material.case.prepared.loaded
    return ModelRef(
        path=str(material.case.constraints.model),
        sha256=loaded.sha256,
        size_bytes=loaded.size_bytes,
        ops=len(material.case.prepared.graph.ops),
        parameters=loaded.parameters,
    )


def ranges_of(choices: Choices, realised: Mapping[str, Format]) -> dict[str, tuple[float, float]]:
    """Only those that the build of this plan reads: static formats' activations."""
    static = {op for op, form in realised.items() if form == Format.INT8_STATIC}
    wanted = {
        name
        for offer in choices.offers
        if offer.op in static and offer.format == Format.INT8_STATIC
        for name in offer.ranged_tensors
    }
    return {name: choices.ranges[name] for name in sorted(wanted)}


def _memory(material: Material) -> Estimate:
    """As `steps/process` counts on the CPU: runtime, weights, activations. What loading takes for a
    moment comes on top."""
    size = float(material.memory_size_bytes)
    return Estimate(low=size, expected=size, high=size * 1.25, source="modelled")


def error_estimate(expected: float) -> Estimate:
    """A sum of sensitivities, with how far joint errors are from it."""
    return Estimate(low=0.0, expected=expected, high=4.0 * expected, source="modelled")


def _solver(material: Material) -> SolverReport:
    from planner.solve.explain import binding

    solution, problem = material.settled.solution, material.settled.problem
    return SolverReport(
        status=solution.status.value,
        solver=solution.solver,
        objectives=tuple(objective.value for objective in problem.objectives),
        objective=solution.objective,
        bound=solution.bound,
        gap=solution.gap,
        seed=material.case.constraints.solver.seed,
        hit_time_limit=solution.hit_time_limit,
        options=len(problem.options),
        settings=len(problem.settings),
        rounds=material.settled.rounds,
        binding=tuple(found.limit for found in binding(problem, solution)),
    )


def _decisions(material: Material) -> tuple[Decision, ...]:
    kinds = {op.name: op.kind for op in material.case.prepared.graph.ops}
    rivals = _rivals(material)
    found: dict[str, Decision] = {}
    regions = material.cut.partition.regions
    told = foremost(material.case.prepared.graph, [region.ops for region in regions])
    for region in regions:
        price = sum(
            shape.share * material.cut.price(kernel, material.setting, number).expected_us
            for number, shape in enumerate(material.case.prepared.shapes)
            for kernel in region.kernels
        )
        for op in region.ops:
            form = material.shipped.realised.get(op, NATIVE)
            rival = rivals.get(op)
            found[op] = Decision(
                op=op,
                op_type=kinds[op],
                group=region.ops[0],
                format=str(form),
                predicted_us=price if op in told else 0.0,
                error=material.case.errors.get((op, form), 0.0),
                reason=_reason(str(form), price, rival, material),
                runner_up=rival,
            )
    return tuple(found[op.name] for op in material.case.prepared.graph.ops)


def _rivals(material: Material) -> dict[str, RunnerUp]:
    from planner.steps.rivals import rivals_of_plan, rivals_of_variant

    winner, settled = material.outcome.winner, material.settled
    found: Mapping[str, SolverRunnerUp]
    if winner is not None and winner.kind == "plan":
        found = rivals_of_plan(settled.problem, settled.solution)
    else:
        formats = material.shipped.realised
        found = rivals_of_variant(material.case.posed, settled.problem, formats, material.setting)
    return {
        op: RunnerUp(
            format=rival.format,
            delta_us=rival.delta_us,
            delta_error=rival.delta_error,
            reason=rival.reason,
        )
        for op, rival in found.items()
    }


def _reason(form: str, price_us: float, rival: RunnerUp | None, material: Material) -> str:
    if material.outcome.winner is None:
        return "plain ONNX Runtime ships: see guard"
    if material.outcome.winner.kind == "uniform":
        return f"the uniform variant {material.outcome.winner.name} ships: see guard"
    if rival is None:
        return "no other option" if form == NATIVE else f"{form} at {format_duration(price_us)}"
    return f"{rival.format}: {rival.reason}" if rival.format else rival.reason


def _warnings(material: Material) -> tuple[str, ...]:
    found = list(material.case.prepared.notes)
    if not material.case.prepared.is_calibrated and material.shipped.realised:
        found.append(
            "uncalibrated: errors were measured on synthetic inputs; give --calibration data"
        )
    if material.settled.solution.is_uncertain:
        found.append("the latency promise holds at the expected, not at the upper end")
    if material.settled.solution.hit_time_limit:
        found.append("the time limit ended the search: another run may find another plan")
    return tuple(found)
