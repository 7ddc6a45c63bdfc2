"""From plan.json to an engine directory: the same files for the same plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from planner.compress.base import Calibration, Format
from planner.compress.measure import runner
from planner.compress.synthetic import synthetic_samples
from planner.emit.blueprint import Blueprint, Part, Talk
from planner.emit.engine import is_current, served_name, write_engine
from planner.emit.golden import MAX_NMSE, Golden
from planner.emit.partition import StageCut, partition, read, stage_cuts, with_copies
from planner.graph.sandbox import MANY_RUNS, Sandbox
from planner.place.recompute import copied
from planner.runtime.fingerprint import this_environment
from planner.runtime.ort import make_session, tensor_specs
from planner.runtime.tensors import read_tensors
from planner.spec.manifest import TensorSpec
from planner.spec.plan import Plan, WorkloadShape
from planner.spec.session import SessionSettings
from planner.steps.files import Files, files_of
from planner.steps.flips import flip_limit, unrounded
from planner.steps.prepare import SYNTHETIC_RUNS
from planner.steps.reading import kept_graph, planned_model
from planner.steps.realisable import refuse_unrealisable
from planner.steps.variant_files import Source, build_file_from
from planner.steps.workspace import Workspace

_ONE_RUN_MARGIN = 10.0
"""The error of one run may exceed the budget, which is a mean over all samples, by this factor: the
golden check finds a broken engine; the budget itself was checked on all samples when planning."""
_LEAST_GOLDEN_NMSE = 1e-6
_OTHER_DEVICE_NMSE = 1e-5
"""TF32 products, which GPUs use for fp32, round at 2**-11: MiniLM differs by 9e-7 (H200)."""
_PACKED = frozenset((Format.INT8_WO, Format.INT4_WO))
"""Formats whose kernels round activations where they may, and need not."""
_INTEGER = frozenset((Format.INT8_DYNAMIC, Format.INT8_DYNAMIC_SMOOTH, Format.INT8_STATIC))
"""Formats whose activations are rounded in any case."""
_LEAST_FUSED_NMSE = 1e-5
"""Of generated kernels against the CPU: sums in another order, in float32."""


def build_engine(plan: Plan, out: Path, model: Path | None, work: Workspace) -> Path:
    """Builds `out`, or returns at once where it already holds the engine of this very plan."""
    if is_current(out, plan.digest):
        work.reporter.note(f"{out} is current: reused")
        return out
    refuse_unrealisable(plan)
    work.reporter.stage("build")
    path = model or Path(plan.model.path)
    loaded = planned_model(plan.model, path, work)
    files = files_of(plan, loaded, work)
    if plan.fusion is not None:
        return _build_fused(plan, out, path, files, work)
    part = part_of(plan, path, files, work)
    session = make_session(part, local_settings(plan))
    inputs, outputs = tensor_specs(session)
    del session
    work.reporter.stage("golden")
    goldens = tuple(_golden(plan, shape, files, part, inputs, work) for shape in plan.workload)
    write_engine(
        out,
        Blueprint(
            name=served_name(path),
            plan=plan,
            parts=parts_of(plan, part, inputs, outputs, work),
            inputs=inputs,
            outputs=outputs,
            goldens=goldens,
            environment=this_environment(),
            predicted_latency_us=plan.prediction.latency_p50_us,
        ),
    )
    return out


def _build_fused(plan: Plan, out: Path, path: Path, files: Files, work: Workspace) -> Path:
    """The engine of generated kernels; its golden answers are the unchanged model's, on the CPU."""
    from planner.steps.fused.building import fused_parts

    assert plan.fusion is not None
    parts = fused_parts(plan, files, work)
    here = SessionSettings()
    session = make_session(files.model_path, here)
    inputs, outputs = tensor_specs(session)
    del session
    work.reporter.stage("golden")
    on_cpu = plan.model_copy(update={"settings": here})
    goldens = [
        _golden(on_cpu, shape, files, files.model_path, inputs, work) for shape in plan.workload
    ]
    rounding = max(plan.accuracy.measured_error, plan.fusion.rounding_error)
    limit = max(_ONE_RUN_MARGIN * rounding, _LEAST_FUSED_NMSE)
    write_engine(
        out,
        Blueprint(
            name=served_name(path),
            plan=plan,
            parts=parts,
            inputs=inputs,
            outputs=outputs,
            goldens=tuple(_loosened(one, limit) for one in goldens),
            environment=plan.environment,
            predicted_latency_us=plan.prediction.latency_p50_us,
            built_for=plan.fusion.device,
        ),
    )
    return out


def local_settings(plan: Plan) -> SessionSettings:
    """How the whole model runs here: what ranks, or a device elsewhere, are compared with."""
    is_elsewhere = bool(plan.execution) or plan.placement is not None
    return SessionSettings() if is_elsewhere else plan.settings


def parts_of(
    plan: Plan,
    part: Path,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    work: Workspace,
) -> tuple[Part | Talk, ...]:
    if plan.execution:
        model, graphs = read(part, [shape.shapes for shape in plan.workload])
        again = plan.streaming.recomputed if plan.streaming is not None else ()
        model, graphs = with_copies(model, again), tuple(copied(g, again) for g in graphs)
        cuts = stage_cuts(model, graphs, plan.execution)
        _tell_kept_whole(cuts, work)
        return partition(
            model, graphs, cuts, work.scratch / "ranks", plan.settings, part.parent,
            maps_weights=plan.streaming is not None,
        )  # fmt: skip
    return (
        Part(
            onnx_path=part,
            inputs=tuple(spec.name for spec in inputs),
            outputs=tuple(spec.name for spec in outputs),
            settings=plan.settings,
            is_temporary=part.parent == work.scratch,
        ),
    )


def _tell_kept_whole(cuts: Sequence[StageCut], work: Workspace) -> None:
    """The plan priced shares of these: its memory and its latency are too low."""
    for cut in cuts:
        if not cut.kept_whole:
            continue
        first, *others = cut.kept_whole
        also = f" and {len(others)} more" if others else ""
        work.reporter.note(
            f"{first!r}{also} cannot be shared once packed, or not under every shape: each of "
            f"{len(cut.ranks)} ranks keeps the whole and does all of it, which takes more memory "
            "and time than the plan says"
        )


def part_of(plan: Plan, path: Path, files: Files, work: Workspace) -> Path:
    """The ONNX file that the engine runs; what ranks share is cut from it."""
    if plan.shipped == "plain" and not plan.execution:
        return files.plain_path
    base = files.model_path if plan.simplified else files.bound_path
    if not plan.formats:
        return base
    formats = {op: Format(form) for op, form in plan.formats.items()}
    built = work.scratch / "part.onnx"
    source = Source(base, str(path), plan.model.size_bytes)
    build_file_from(source, formats, Calibration(plan.ranges, plan.smoothing), built)
    return built


def _golden(
    plan: Plan,
    shape: WorkloadShape,
    files: Files,
    part: Path,
    inputs: tuple[TensorSpec, ...],
    work: Workspace,
) -> Golden:
    kept = files.inputs_path(shape.shapes)
    is_real = kept.exists()
    feeds = read_tensors(kept) if is_real else synthetic(shape, files, inputs, work)
    sandbox = Sandbox("running the engine", str(part), MANY_RUNS.for_size(plan.model.size_bytes))
    settings = local_settings(plan)
    # The CUDA driver maps more addresses than a sandbox allows.
    is_gpu = settings.provider == "cuda"
    outputs = _run(part, settings, feeds) if is_gpu else sandbox.call(_run, part, settings, feeds)
    reference = sandbox.call(_run, files.bound_path, SessionSettings(), feeds)
    kept_outputs = {n: v for n, v in outputs.items() if n not in files.random_outputs}
    comparable = not files.random_outputs and (is_real or not plan.accuracy.calibrated)
    if not comparable and plan.formats:
        work.reporter.note(
            "none of the data that the plan was made with is here: the engine is compared with "
            "itself only"
        )
    return Golden(
        shape=shape.name,
        inputs=feeds,
        outputs=outputs,
        reference=reference,
        max_reference_nmse=_reference_limit(plan) if comparable else None,
        max_nmse=_own_limit(plan, part, feeds, kept_outputs, reference, sandbox),
        skipped=files.random_outputs,
    )


def _own_limit(
    plan: Plan,
    part: Path,
    feeds: dict[str, Any],
    outputs: dict[str, Any],
    reference: dict[str, Any],
    sandbox: Sandbox,
) -> float:
    """How far an engine may be from the same files in one process, which answers `outputs`."""
    limit = _OTHER_DEVICE_NMSE if _runs_elsewhere(plan) else MAX_NMSE
    formats = set(plan.formats.values())
    if plan.ranks == 1 or not formats & (_PACKED | _INTEGER):
        return limit
    if formats & _INTEGER:  # no file of the same weights rounds no activation: the model's own does
        return max(limit, flip_limit({name: reference[name] for name in outputs}, outputs))
    exact = sandbox.call(_run, unrounded(part), local_settings(plan), feeds)
    return max(limit, flip_limit({name: exact[name] for name in outputs}, outputs))


def _runs_elsewhere(plan: Plan) -> bool:
    """Whether the golden outputs, made on the CPU, are compared with those of GPUs."""
    if plan.placement is not None and not plan.execution:
        return True
    return any(stage.device == "cuda" for stage in plan.execution)


def synthetic(
    shape: WorkloadShape, files: Files, inputs: tuple[TensorSpec, ...], work: Workspace
) -> dict[str, Any]:
    """Inputs of one run where none of the user's own are kept."""
    specs = [
        TensorSpec(name=spec.name, dtype=spec.dtype, shape=shape.shapes.get(spec.name, spec.shape))
        for spec in inputs
    ]
    graph = kept_graph(files.bound_path, work)
    return synthetic_samples(specs, SYNTHETIC_RUNS, graph=graph).feeds(0)


def _reference_limit(plan: Plan) -> float:
    budget = max(plan.promise.max_error or 0.0, plan.accuracy.measured_error)
    return max(budget * _ONE_RUN_MARGIN, _LEAST_GOLDEN_NMSE)


def _run(path: Path, settings: SessionSettings, feeds: dict[str, Any]) -> dict[str, Any]:
    return dict(runner(path, settings)(feeds))


def _loosened(golden: Golden, limit: float) -> Golden:
    """Golden answers come from the CPU: kernels round elsewhere."""
    asked = golden.max_reference_nmse
    return replace(
        golden, max_nmse=limit, max_reference_nmse=None if asked is None else max(asked, limit)
    )
