"""Plans for one GPU and static shapes: fused groups, chosen jointly and priced by the profile."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from planner import __version__
from planner.cost.rates import capability
from planner.graph.segments import Cut
from planner.runtime.fingerprint import onnxruntime_version
from planner.spec.constraints import Constraints
from planner.spec.fusion import BucketPlan, FusionPlan
from planner.spec.plan import (
    AccuracyReport,
    Decision,
    Environment,
    Estimate,
    ModelRef,
    Plan,
    Prediction,
    SolverReport,
)
from planner.spec.profile import DeviceProfile
from planner.spec.session import SessionSettings
from planner.steps.fused.compiling import compilers_here
from planner.steps.fused.forms import roundings
from planner.steps.fused.parts import read_cuts
from planner.steps.fused.prices import beyond
from planner.steps.fused.record import fusion_plan
from planner.steps.fused.solving import Decided, decide
from planner.steps.prepare import Prepared, prepare_elsewhere
from planner.steps.shapes import sizes
from planner.steps.workspace import Workspace
from planner.units import format_duration


@dataclass(frozen=True, slots=True)
class Settled:
    """A model read, cut, and decided upon."""

    prepared: Prepared
    cuts: tuple[Cut, ...]
    decided: Decided


def settle_fused(constraints: Constraints, profile: DeviceProfile, work: Workspace) -> Settled:
    """What `plan_fused` decides, before it is written down.

    Raises: as `plan_fused`.
    """
    prepared = prepare_elsewhere(constraints, work)
    shapes = [sizes(shape.specs) for shape in prepared.shapes]
    cuts = read_cuts(prepared.model_path, shapes, prepared.loaded.size_bytes)
    formats = roundings(constraints, prepared, cuts, work)
    named = [(shape.name, shape.share) for shape in prepared.shapes]
    compilers = compilers_here(work.kept.parent, capability(profile))
    decided = decide(constraints, profile, named, cuts, formats, work.reporter, compilers)
    return Settled(prepared, cuts, decided)


def plan_fused(constraints: Constraints, profile: DeviceProfile, work: Workspace) -> Plan:
    """The plan of an engine of generated kernels for one device of this profile.

    Raises:
        NotFused: no part of the model is covered.
        UsageError: something is wrong with the request, the model or the data.
        ConflictError: proved that no plan meets the limits.
        NoPlanInTimeError: the time limit ended first.
    """
    found = settle_fused(constraints, profile, work)
    names = [shape.name for shape in found.prepared.shapes]
    fusion = fusion_plan(profile, names, found.cuts, found.decided, found.prepared.graph)
    return _document(constraints, profile, found.prepared, found.cuts, found.decided, fusion)


def _document(
    constraints: Constraints,
    profile: DeviceProfile,
    prepared: Prepared,
    cuts: Sequence[Cut],
    decided: Decided,
    fusion: FusionPlan,
) -> Plan:
    predicted = {bucket.shape: _estimate(bucket, decided) for bucket in fusion.buckets}
    totals = decided.solution.totals
    memory = float(totals.memory_size_bytes if totals else 0)
    memory += max(bucket.arena_size_bytes for bucket in fusion.buckets)
    return Plan(
        model=ModelRef(
            path=str(constraints.model),
            sha256=prepared.loaded.sha256,
            size_bytes=prepared.loaded.size_bytes,
            ops=len(prepared.graph.ops),
            parameters=prepared.loaded.parameters,
        ),
        environment=_environment(profile),
        workload=tuple(shape.recorded for shape in prepared.shapes),
        promise=constraints.promise,
        shipped="plan",
        settings=SessionSettings(provider="cuda"),
        simplified=prepared.is_simplified,
        formats={},
        decisions=_decisions(prepared, fusion, decided),
        solver=_solver(constraints, decided),
        prediction=Prediction(
            latency_p50_us=predicted,
            latency_slo_us=predicted,
            memory_size_bytes=Estimate(
                low=memory, expected=memory, high=memory * 1.25, source="modelled"
            ),
            error=Estimate(
                low=0.0,
                expected=decided.form.error,
                high=4.0 * decided.form.error,
                source="modelled",
            ),
        ),
        accuracy=AccuracyReport(
            calibrated=prepared.is_calibrated,
            samples=sum(samples.whole_runs().runs for samples in prepared.samples),
            predicted_error=decided.form.error,
            measured_error=decided.form.error,
        ),
        fusion=fusion,
        warnings=(
            *prepared.notes,
            *_warnings(constraints, profile, cuts[0], decided),
            *beyond(constraints.promise.latency_us, fusion.buckets),
        ),
    )


def _environment(profile: DeviceProfile) -> Environment:
    """The target's, as far as its profile knows it: what a verdict there is compared with."""
    text = f"{profile.name} {profile.architecture}"
    return Environment(
        infopt=__version__,
        onnxruntime=onnxruntime_version(),
        device=profile.title,
        device_digest=hashlib.sha256(text.encode()).hexdigest(),
        platform="CUDA",
    )


def _estimate(bucket: BucketPlan, decided: Decided) -> Estimate:
    """Modelled: the interval of the solver's totals, scaled to this bucket."""
    from planner.fuse.groups import SPREAD

    expected = bucket.predicted_us
    return Estimate(
        low=expected * (1 - SPREAD),
        expected=expected,
        high=expected * (1 + SPREAD),
        source="modelled",
    )


def _decisions(prepared: Prepared, fusion: FusionPlan, decided: Decided) -> tuple[Decision, ...]:
    """Each operator with the launch that makes its result, whose time stands at its first."""
    kinds = {op.name: op.kind for op in prepared.graph.ops}
    groups: dict[str, tuple[str, float, str]] = {}
    for segment in fusion.buckets[0].segments:
        if segment.kind == "ort":
            for position, op in enumerate(segment.ops):
                time_us = segment.predicted_us if position == 0 else 0.0
                groups[op] = ("ort", time_us, "no generated code covers its part")
        for launch in segment.launches:
            fresh = [op for op in launch.ops if op not in groups]
            for position, op in enumerate(fresh):
                time_us = launch.predicted_us if position == 0 else 0.0
                reason = f"one of {len(launch.ops)} operators in a launch of "
                groups[op] = (launch.name, time_us, reason + format_duration(launch.predicted_us))
    nothing = ("", 0.0, "computed ahead of time, or only moves data: no kernel of its own")
    return tuple(
        Decision(
            op=op.name,
            op_type=kinds[op.name],
            group=(found := groups.get(op.name, nothing))[0],
            format=decided.form.name if found[0] != "ort" else "native",
            predicted_us=found[1],
            error=0.0,
            reason=found[2],
        )
        for op in prepared.graph.ops
    )


def _solver(constraints: Constraints, decided: Decided) -> SolverReport:
    from planner.solve.explain import binding

    solution, problem = decided.solution, decided.groups.problem
    return SolverReport(
        status=solution.status.value,
        solver=solution.solver,
        objectives=tuple(objective.value for objective in problem.objectives),
        objective=solution.objective,
        bound=solution.bound,
        gap=solution.gap,
        seed=constraints.solver.seed,
        hit_time_limit=solution.hit_time_limit,
        options=len(problem.options),
        settings=len(problem.settings),
        rounds=decided.existing.rounds,
        binding=tuple(found.limit for found in binding(problem, solution)),
    )


def _warnings(
    constraints: Constraints, profile: DeviceProfile, found: Cut, decided: Decided
) -> list[str]:
    texts = [
        f"prices are modelled from the profile of {profile.name}; `infopt verify` on the device "
        "times the kernels against ONNX Runtime and ships the faster"
    ]
    texts += _of_compiling(profile, decided)
    if found.covered < found.operators:
        rest = found.operators - found.covered
        texts.append(f"ONNX Runtime runs {rest} operators that no generated code covers")
    if constraints.accuracy.max_drop is not None:
        texts.append("the metric's drop is measured by `infopt verify` on the device, not here")
    if decided.solution.is_uncertain:
        texts.append("the latency promise holds at the expected, not at the upper end")
    return texts


def _of_compiling(profile: DeviceProfile, decided: Decided) -> list[str]:
    found, target = decided.existing, profile.architecture or "an unknown architecture"
    if not found.is_compiled:
        return [
            f"kernels are not compiled: no compiler for {target} runs here; `infopt deploy` "
            "replaces those that it refuses, and they take longer than this plan says"
        ]
    if not found.missing:
        return []
    more = f" and of {len(found.missing) - 1} more" if len(found.missing) > 1 else ""
    return [
        f"the kernel of {found.missing[0]!r}{more} is refused for {target} after {found.rounds} "
        "rounds: `infopt deploy` replaces it by one that takes longer than this plan says"
    ]
