"""Does an engine keep its plan's promise, here and now?"""

from __future__ import annotations

from pathlib import Path

from planner.profiling.cuda import utilisation
from planner.report.text import unprovable_text
from planner.runtime import integrity
from planner.runtime.devices import gpu_title
from planner.runtime.engine import load
from planner.runtime.fingerprint import (
    fingerprint_differences,
    gpu_environment,
    this_environment,
)
from planner.runtime.streaming.footprint import peak_size_bytes
from planner.runtime.tensors import read_tensors
from planner.runtime.verify import verify_outputs
from planner.spec.io import read_plan
from planner.spec.manifest import Manifest
from planner.spec.plan import Environment, Plan
from planner.spec.verdict import Check, Verdict
from planner.steps.gpu.document import ON_CPU
from planner.steps.measured import Measured, measured_on
from planner.steps.rates import throughput_checks
from planner.steps.unverified import unverified
from planner.steps.workspace import Workspace
from planner.units import format_duration, format_size

_SLACK = 1.5
"""How much slower than the upper end of its interval an engine may be, in its faster rounds, before
the prediction counts as broken: whole models vary by that much from process to process on a shared
machine. The promise itself (`slo`) knows no slack."""
_DISTURBED = 1.2
"""Medians that lie so far above the undisturbed rounds are told beside them."""
_CALL_US = 10.0
"""What is always allowed beyond the interval: how far calls of models that compute next to nothing
differ from process to process (5 to 16 us for one that hands on four numbers, on a busy machine).
Predictions of such models are of the call alone, and half of it is nothing to fail a build for."""


def verify_engine(engine: Path, work: Workspace) -> Verdict:
    """Files, device, outputs, accuracy, and measured against predicted latency.

    Raises:
        VerificationError: damaged or altered files: such an engine is not run at all.
    """
    manifest = integrity.read_manifest(engine)
    if manifest.fused_segments:
        from planner.steps.fused.verifying import verify_fused

        return verify_fused(engine, work)
    work.reporter.stage("verify")
    if _is_for_gpu(manifest) and gpu_title() is None:
        elsewhere = _elsewhere(engine, manifest)
        if elsewhere is not None:
            return elsewhere
    manifest, checks = _answers(engine)
    plan = read_plan(engine / "plan.json")
    on_gpu = _runs_on_gpu(plan, manifest)
    here = gpu_environment() if on_gpu else this_environment()
    device, is_same_device = _device(plan.environment, here)
    checks += [device, _accuracy(plan)]
    work.reporter.stage("measure")
    measured = [measured_on(engine, manifest, golden, plan, work) for golden in manifest.golden]
    is_whole = manifest.ranks == len(manifest.ort_segments) == 1 and not manifest.is_streamed
    is_own = not plan.execution and plan.placement is None
    if on_gpu and is_whole:
        checks += _on_gpu(engine, manifest, plan)
    if not on_gpu and (plan.streaming is not None or is_own):
        checks += _memory(engine, manifest, plan)
    for found in measured:
        checks += _latency(plan, found, is_same_device=is_same_device)
    checks += throughput_checks(plan, {found.shape: found.p50.expected for found in measured})
    return Verdict(
        engine=str(engine),
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        predicted_us={found.shape: found.predicted for found in measured},
        measured_us={found.shape: found.p50 for found in measured},
        undisturbed_us={f.shape: f.undisturbed for f in measured if f.undisturbed is not None},
        warnings=plan.warnings,
    )


def _elsewhere(engine: Path, manifest: Manifest) -> Verdict | None:
    """Of an engine that was planned for GPUs elsewhere, where there is none: its files. None of one
    that was planned on its machine."""
    integrity.check_files(engine, manifest.files, verify_hashes=True)
    plan = read_plan(engine / "plan.json")
    if plan.placement is None:
        return None
    intact = Check(name="files", passed=True, detail=f"{len(manifest.files)} files intact")
    return unverified(engine, plan, [intact], plan.placement.device, "there is no NVIDIA GPU")


def _answers(engine: Path) -> tuple[Manifest, list[Check]]:
    """Whether its files are whole, and its answers those it was built with."""
    with load(engine) as session:
        manifest = session.manifest
        intact = Check(name="files", passed=True, detail=f"{len(manifest.files)} files intact")
        return manifest, [
            intact,
            *(
                Check(name=found.name, passed=found.is_kept, detail=found.detail)
                for found in verify_outputs(session)
            ),
        ]


def _is_for_gpu(manifest: Manifest) -> bool:
    is_provided = any(one.settings.provider == "cuda" for one in manifest.ort_segments)
    return is_provided or any(stage.device == "cuda" for stage in manifest.stages)


def _runs_on_gpu(plan: Plan, manifest: Manifest) -> bool:
    return plan.settings.provider == "cuda" or any(s.device == "cuda" for s in manifest.stages)


def _device(planned: Environment, here: Environment) -> tuple[Check, bool]:
    """The plan's device, not the builder's: predictions were made for the former."""
    differences = fingerprint_differences(planned, here)
    if not differences:
        detail = f"as planned: {planned.device}"
        return Check(name="device", passed=True, detail=detail), True
    detail = "differs, so latencies are checked against the promise only: " + "; ".join(
        difference.text for difference in differences
    )
    return Check(name="device", passed=True, detail=detail), False


def _on_gpu(engine: Path, manifest: Manifest, plan: Plan) -> list[Check]:
    """Whether the GPU runs what it was planned to, and how busy a call keeps it."""
    segment, golden = manifest.ort_segments[0], manifest.golden[0]
    feeds = dict(read_tensors(engine / golden.inputs))
    found = utilisation.measure(engine / segment.file, segment.settings, feeds)
    is_planned = any(warning.startswith(ON_CPU) for warning in plan.warnings)
    detail = "every operator on the GPU"
    if found.on_cpu:
        detail = f"{len(found.on_cpu)} operators on the CPU, the first: {found.on_cpu[0]}"
        detail += "; as planned" if is_planned else "; the plan had all on the GPU"
    checks = [Check(name="placement", passed=is_planned or not found.on_cpu, detail=detail)]
    if found.text is not None:
        checks.append(Check(name="gpu", passed=True, detail=found.text))
    return checks


def _memory(engine: Path, manifest: Manifest, plan: Plan) -> list[Check]:
    """Whether a process that runs the engine stays within what it may take."""
    limit = plan.promise.memory_size_bytes
    if limit is None:
        return []
    found = peak_size_bytes(engine, *(engine / golden.inputs for golden in manifest.golden))
    if found is None:
        return []
    predicted = plan.prediction.memory_size_bytes.expected
    detail = (
        f"{format_size(found)} at its peak, predicted {format_size(predicted)}, promised "
        f"{format_size(limit)}"
    )
    return [Check(name="memory", passed=found <= limit, detail=detail)]


def _accuracy(plan: Plan) -> Check:
    found = plan.accuracy
    detail = f"NMSE {found.measured_error:.3g} when planned"
    if found.metric is not None and found.value is not None:
        detail += f"; {found.metric} {found.value:.4g} (unchanged model {found.baseline:.4g})"
    unprovable = unprovable_text(plan)
    if unprovable is not None:
        detail += f"; {unprovable}"
    return Check(name="accuracy", passed=found.is_kept, detail=detail)


def _latency(plan: Plan, found: Measured, *, is_same_device: bool) -> list[Check]:
    label, here = plan.label(found.shape), found.predicted
    detail = (
        f"{label}p50 measured {format_duration(found.p50.expected)}, predicted "
        f"{format_duration(here.expected)} [{format_duration(here.low)} .. "
        f"{format_duration(here.high)}] (machine at {1 / found.factor:.2f}x of its speed when "
        "planned)"
    )
    calm = found.undisturbed
    if calm is not None and found.p50.expected > calm.measured_us * _DISTURBED:
        detail += (
            f"; its undisturbed rounds {format_duration(calm.measured_us)}, predicted "
            f"{format_duration(calm.predicted.expected)}"
        )
    predicted_us = max(here.high, plan.prediction.latency_p50_us[found.shape].high)
    is_kept = keeps_prediction(found.p50.low, predicted_us) or not is_same_device
    checks = [Check(name="latency", passed=is_kept, detail=detail)]
    limit = plan.promise.latency_us
    if limit is not None:
        detail = (
            f"{label}p{plan.promise.latency_percentile:g} {format_duration(found.slo_us)}, "
            f"promised {format_duration(limit)}"
        )
        checks.append(Check(name="slo", passed=found.slo_us <= limit, detail=detail))
    return checks


def keeps_prediction(measured_us: float, predicted_us: float) -> bool:
    """Whether a latency is near enough to the upper end of what was predicted."""
    return measured_us <= max(predicted_us * _SLACK, predicted_us + _CALL_US)
