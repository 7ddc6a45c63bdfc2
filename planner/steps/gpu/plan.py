"""`--target cuda`: which of ONNX Runtime's ways to run the model on this GPU is the fastest.

The ways are few, so all are tried: the model's own format and fp16, each with calls one by one and
as one CUDA graph, tensors at fixed addresses. Their kernels are profiled, which is the prediction;
then they race plain ONNX Runtime on this GPU, as every plan must. No sandbox holds what runs on the
GPU: the CUDA driver maps more addresses than any limit would allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.compress.base import NATIVE, Calibration, Format, Offer
from planner.compress.measure import joint_error
from planner.compress.methods import offers
from planner.errors import EnvironmentMismatchError, InfeasibleError, ModelError
from planner.profiling.cuda.utilisation import Utilisation, measure
from planner.profiling.race import Contestant
from planner.runtime.devices import count_gpus
from planner.runtime.tensors import read_tensors
from planner.spec.constraints import Constraints
from planner.spec.plan import GuardReport, Plan, Timing
from planner.spec.session import SessionSettings
from planner.steps.gpu.document import ON_CPU, document
from planner.steps.prepare import Prepared, prepare_elsewhere
from planner.steps.raced import CONTROL, PLAIN, Raced, refuse_low_rate
from planner.steps.racing import race
from planner.steps.variant_files import Source, build_file_from
from planner.steps.winner import pick
from planner.steps.workspace import Workspace
from planner.units import format_duration

_REFUSED = "ONNX Runtime cannot run the model on this GPU"
_ROUNDS = 200
_BUDGET_S = 6.0
PLAIN_SETTINGS = SessionSettings(provider="cuda", intra_op_threads=1, spinning=False)
"""One thread: what the host does is queueing."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the model here."""

    name: str
    path: Path
    settings: SessionSettings
    formats: Mapping[str, Format]
    error: float
    """NMSE at the outputs on this GPU; 0 in the model's own format."""
    found: tuple[Utilisation, ...]
    """Per workload shape."""


def plan_gpu(constraints: Constraints, work: Workspace) -> Plan:
    """The plan for the first GPU of this machine.

    Raises:
        EnvironmentMismatchError: there is none, or more are asked for than one.
        InfeasibleError: no way keeps the promised latency when it is measured.
        VerificationError: what ships sustains less than the promised throughput.
        UsageError: something is wrong with the request, the model or the data.
    """
    _refuse_absent(constraints)
    prepared = prepare_elsewhere(constraints, work)
    work.reporter.stage("profile")
    ways = _ways(constraints, prepared, work)
    report, winner = _guard(constraints, prepared, ways, work)
    return document(constraints, prepared, winner or ways[0], report, _notes(ways))


def _refuse_absent(constraints: Constraints) -> None:
    if count_gpus() < 1:
        raise EnvironmentMismatchError(
            "there is no NVIDIA GPU here",
            where="target.device",
            fix="plan for a GPU that stands elsewhere by its name: infopt devices",
        )
    gpus = constraints.target.gpus
    if gpus is not None and gpus.minimum > 1:
        raise EnvironmentMismatchError(
            "plans that are measured use one GPU",
            where="target.gpus",
            fix="plan for one, then: infopt spread plan.json --tensor "
            f"{gpus.minimum} --device cuda",
        )


def _ways(constraints: Constraints, prepared: Prepared, work: Workspace) -> list[Way]:
    files: dict[str, tuple[Path, Mapping[str, Format], float]] = {
        "native": (prepared.model_path, {}, 0.0)
    }
    half = _half(constraints, prepared, work)
    if half is not None:
        files["fp16"] = half
    found: list[Way] = []
    for label, (path, formats, error) in files.items():
        for name, graph in ((label, False), (f"{label}, CUDA graph", True)):
            settings = PLAIN_SETTINGS.model_copy(update={"cuda_graph": graph})
            way = _profiled(name, path, settings, formats, error, prepared, work)
            found += [way] if way is not None else []
    if not found:
        raise ModelError(
            "ONNX Runtime cannot run the model on this GPU", where=str(prepared.loaded.path)
        )
    return found


def _half(
    constraints: Constraints, prepared: Prepared, work: Workspace
) -> tuple[Path, Mapping[str, Format], float] | None:
    """The model with fp16 wherever it may be, and its error; None where that is too much."""
    allowed = constraints.compression.formats
    if allowed is not None and Format.FP16 not in allowed:
        return None
    answers = offers(prepared.graph, (NATIVE, Format.FP16), constraints.compression.pin)
    formats = {a.op: a.format for a in answers if isinstance(a, Offer) and a.format == Format.FP16}
    if not formats:
        return None
    built = work.scratch / "fp16.onnx"
    loaded = prepared.loaded
    source = Source(prepared.model_path, str(loaded.path), loaded.size_bytes)
    build_file_from(source, formats, Calibration(), built)
    samples = prepared.samples[0].first(4)
    error = joint_error(prepared.bound_path, built, samples, PLAIN_SETTINGS).worst
    limit = constraints.accuracy.max_error
    if limit is not None and error > limit:
        work.reporter.note(f"fp16 is out: NMSE {error:.3g}, limit {limit:.3g}")
        return None
    return built, formats, float(error)


def _profiled(
    name: str,
    path: Path,
    settings: SessionSettings,
    formats: Mapping[str, Format],
    error: float,
    prepared: Prepared,
    work: Workspace,
) -> Way | None:
    found: list[Utilisation] = []
    for done, shape in enumerate(prepared.shapes):
        work.reporter.progress(done, len(prepared.shapes), f"{name}, {shape.name}")
        try:
            feeds = dict(read_tensors(shape.feeds_path))
            found.append(measure(path, settings, feeds))
        except (ModelError, EnvironmentMismatchError) as reason:
            work.reporter.note(f"{name} is out: {reason.what}")
            return None
    return Way(name, path, settings, formats, error, tuple(found))


def _guard(
    constraints: Constraints, prepared: Prepared, ways: Sequence[Way], work: Workspace
) -> tuple[GuardReport, Way | None]:
    work.reporter.stage("guard")
    contestants = [
        Contestant(PLAIN, prepared.plain_path, PLAIN_SETTINGS),
        Contestant(CONTROL, prepared.plain_path, PLAIN_SETTINGS),
        *(Contestant(way.name, way.path, way.settings) for way in ways),
    ]
    rows = [
        race(
            contestants, shape.feeds_path, work, rounds=_ROUNDS, budget_s=_BUDGET_S,
            model_size_bytes=prepared.loaded.size_bytes,
        )
        for shape in prepared.shapes
    ]  # fmt: skip
    raced = Raced(prepared.shapes, rows, constraints.promise.latency_percentile)
    timings = {name: raced.timing(name) for name in raced.ran([c.name for c in contestants])}
    if PLAIN not in timings or CONTROL not in timings:
        raise ModelError(_REFUSED, where=str(prepared.loaded.path))
    kinds: dict[str, Any] = {way.name: "uniform" for way in ways if way.name in timings}
    name, reason = pick(kinds, timings, raced.threshold)
    shipped = timings[name or PLAIN]
    _refuse_broken_promise(constraints, shipped, timings)
    report = raced.report(shipped.name, tuple(timings.values()), reason)
    return report, next((way for way in ways if way.name == name), None)


def _refuse_broken_promise(
    constraints: Constraints, shipped: Timing, timings: Mapping[str, Timing]
) -> None:
    refuse_low_rate(constraints.promise.throughput_per_s, shipped, timings)
    limit = constraints.promise.latency_us
    if limit is not None and shipped.slo_us > limit:
        raise InfeasibleError(
            f"the fastest way measured takes {format_duration(shipped.slo_us)}, promised "
            f"{format_duration(limit)}",
            where=shipped.name,
            fix="a longer SLO, a faster GPU, or fp16 allowed by a larger max_error",
        )


def _notes(ways: Sequence[Way]) -> tuple[str, ...]:
    """What the GPU did in each way, and what it was spared."""
    found = []
    for way in ways:
        use = way.found[0]
        if use.text is not None:
            found.append(f"{way.name}: the GPU {use.text}")
    on_cpu = ways[0].found[0].on_cpu
    if on_cpu:
        shown = ", ".join(on_cpu[:5]) + (", ..." if len(on_cpu) > 5 else "")
        found.append(f"{ON_CPU}: {shown} ({len(on_cpu)} operators)")
    return tuple(found)
