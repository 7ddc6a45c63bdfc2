"""Does an engine of generated kernels keep its promise here, and which way does each part run?

On a machine without such a GPU only files and cubins can be checked: the engine stays unverified.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError, InfoptError, UsageError
from planner.runtime import integrity
from planner.runtime.engine import Session, load
from planner.runtime.fused import manifest as fused
from planner.runtime.fused.driver import Driver
from planner.runtime.selection import write_verified
from planner.runtime.tensors import read_tensors
from planner.runtime.verify import verify_outputs
from planner.spec.io import read_plan
from planner.spec.manifest import FusedSegment, GoldenCheck, Manifest
from planner.spec.plan import Estimate, Plan
from planner.spec.verdict import Check, Verdict
from planner.spec.verified import SegmentTiming, Verified
from planner.steps.workspace import Workspace
from planner.units import format_duration

_ROUNDS = 400
_BUDGET_S = 3.0
_WARM_UP = 20
Run = Callable[[dict[str, Any]], dict[str, Any]]


def verify_fused(engine: Path, work: Workspace) -> Verdict:
    """Files and cubins anywhere; on its GPU also answers, both paths of each part, and latency.

    Raises:
        VerificationError: damaged or altered files: such an engine is not run at all.
    """
    work.reporter.stage("verify")
    manifest = integrity.read_manifest(engine)
    integrity.check_files(engine, manifest.files, verify_hashes=True)
    plan = read_plan(engine / "plan.json")
    checks = [Check(name="files", passed=True, detail=f"{len(manifest.files)} files intact")]
    checks += [_kernels(engine, segment) for segment in manifest.fused_segments]
    try:
        kernels = load(engine, verify_hashes=False, path="fused")
    except EnvironmentMismatchError as error:
        return _unverified(engine, manifest, plan, checks, error)
    with kernels:
        return _verified(engine, manifest, plan, checks, kernels, work)


def _kernels(engine: Path, segment: FusedSegment) -> Check:
    """Every launch has a binary for every architecture, and none of them spills."""
    found = fused.read(engine / segment.folder)
    architectures = sorted({item.architecture for item in found.binaries})
    there = {(item.kernel, item.architecture) for item in found.binaries}
    wanted = {(launch.kernel, a) for launch in found.launches for a in architectures}
    spilling = sorted({item.kernel for item in found.binaries if item.stack_size_bytes})
    names = ", ".join(f"sm_{value}" for value in architectures)
    detail = (
        f"{segment.folder}: {len(found.launches)} launches of "
        f"{len({launch.kernel for launch in found.launches})} kernels for {names}"
    )
    if spilling:
        detail += f"; {len(spilling)} keep values in local memory"
    if wanted - there:
        detail += f"; {len(wanted - there)} binaries are absent"
    return Check(name="kernels", passed=wanted <= there, detail=detail)


def _unverified(
    engine: Path, manifest: Manifest, plan: Plan, checks: list[Check], error: InfoptError
) -> Verdict:
    detail = f"unverified: built for {manifest.built_for}, and here {error.what}"
    return Verdict(
        engine=str(engine),
        passed=all(check.passed for check in checks),
        is_unverified=True,
        checks=(*checks, Check(name="device", passed=True, detail=detail)),
        predicted_us=plan.prediction.latency_p50_us,
        warnings=(
            *plan.warnings,
            f"unverified: run `infopt verify {engine.name}` on the device before it is served",
        ),
    )


# ---------------------------------------------------------------------- on the GPU
@dataclass(slots=True)
class _Part:
    """One generated part, both ways."""

    folder: str
    fused: Run
    library: Run | None
    note: str
    kernel_us: Callable[[], dict[str, float]]
    """Times each kernel."""
    times: dict[tuple[str, str], float] = field(default_factory=dict)
    """(shape, `fused` or `library`) -> median microseconds."""

    @property
    def choice(self) -> str:
        """The faster way over all shapes; kernels where ONNX Runtime cannot run the part."""
        if self.library is None:
            return "fused"
        total = {
            way: sum(us for (_, own), us in self.times.items() if own == way)
            for way in ("fused", "library")
        }
        return min(("fused", "library"), key=lambda way: total[way])


def _verified(
    engine: Path,
    manifest: Manifest,
    plan: Plan,
    checks: list[Check],
    kernels: Session,
    work: Workspace,
) -> Verdict:
    driver = Driver()
    detail = f"{driver.name}, sm_{driver.architecture}, driver {driver.version}"
    checks.append(Check(name="device", passed=True, detail=detail))
    checks += [
        Check(name=found.name, passed=found.is_kept, detail=found.detail)
        for found in verify_outputs(kernels)
    ]
    work.reporter.stage("measure")
    library, note = _library(engine)
    parts = _parts(manifest, kernels, library, note)
    for golden in manifest.golden:
        _time_parts(parts, manifest, kernels, read_tensors(engine / golden.inputs), golden.shape)
    checks += [_faster(part) for part in parts]
    _keep(engine, manifest, driver, parts, work)
    measured: dict[str, Estimate] = {}
    with load(engine, verify_hashes=False) as chosen:
        for golden in manifest.golden:
            times = _call_us(chosen, read_tensors(engine / golden.inputs))
            measured[golden.shape] = _estimate(times)
            checks += _latency(plan, golden, times)
    return Verdict(
        engine=str(engine),
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        predicted_us=plan.prediction.latency_p50_us,
        measured_us=measured,
        warnings=tuple(text for text in plan.warnings if "`infopt verify`" not in text),
    )


def _library(engine: Path) -> tuple[Session | None, str]:
    """The library path of the whole engine; None with the reason where it cannot run here."""
    try:
        return load(engine, verify_hashes=False, path="library"), ""
    except InfoptError as error:
        return None, f"ONNX Runtime cannot run it here: {error.what}"


def _parts(manifest: Manifest, kernels: Session, library: Session | None, note: str) -> list[_Part]:
    ways = zip(kernels.parts, library.parts if library else (None,) * 1000, strict=False)
    return [
        _Part(
            own.file, own.call, None if other is None else other.call, note, own.kernels.kernel_us
        )
        for own, other in ways
        if own.kernels is not None
    ]


def _time_parts(
    parts: list[_Part],
    manifest: Manifest,
    kernels: Session,
    feeds: Mapping[str, Any],
    shape: str,
) -> None:
    """Both ways of every part on what really reaches it, alternating."""
    alive = dict(feeds)
    by_folder = {part.folder: part for part in parts}
    for own in kernels.parts:
        given = {name: alive[name] for name in own.inputs}
        part = by_folder.get(own.file)
        if part is not None:
            ways: dict[str, Run] = {"fused": part.fused}
            if part.library is not None:
                ways["library"] = part.library
            for way, median_us in _alternate(ways, given).items():
                part.times[shape, way] = median_us
        alive.update(own.call(given))


def _alternate(ways: Mapping[str, Run], feeds: dict[str, Any]) -> dict[str, float]:
    """Medians of calls, one way after the other in every round."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for run in ways.values():
        for _ in range(_WARM_UP):
            run(feeds)
    end = time.perf_counter() + _BUDGET_S
    for _ in range(_ROUNDS):
        for way, run in ways.items():
            begin = time.perf_counter_ns()
            run(feeds)
            taken[way].append((time.perf_counter_ns() - begin) / 1e3)
        if time.perf_counter() > end:
            break
    return {way: float(np.median(times)) for way, times in taken.items()}


def _faster(part: _Part) -> Check:
    fused_us = sum(us for (_, way), us in part.times.items() if way == "fused")
    if part.library is None:
        detail = f"{part.folder}: kernels {format_duration(fused_us)}; {part.note}"
        return Check(name="path", passed=True, detail=detail)
    library_us = sum(us for (_, way), us in part.times.items() if way == "library")
    detail = (
        f"{part.folder}: kernels {format_duration(fused_us)}, ONNX Runtime "
        f"{format_duration(library_us)}: {part.choice} runs from now on"
    )
    return Check(name="path", passed=True, detail=detail)


def _keep(
    engine: Path, manifest: Manifest, driver: Driver, parts: list[_Part], work: Workspace
) -> None:
    verified = Verified(
        manifest_digest=manifest.digest,
        device=driver.name,
        architecture=driver.architecture,
        driver=driver.version,
        segments=tuple(
            SegmentTiming(
                folder=part.folder,
                choice="library" if part.choice == "library" else "fused",
                fused_us=_of(part, "fused"),
                library_us=_of(part, "library"),
                kernel_us=part.kernel_us(),
                note=part.note,
            )
            for part in parts
        ),
    )
    try:
        write_verified(engine, verified)
    except UsageError as error:
        work.reporter.note(f"the choice cannot be kept: {error.what}")


def _of(part: _Part, way: str) -> dict[str, float]:
    return {shape: us for (shape, own), us in part.times.items() if own == way}


def _call_us(session: Session, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    for _ in range(_WARM_UP):
        session.run(feeds)
    taken: list[float] = []
    end = time.perf_counter() + _BUDGET_S
    while len(taken) < _ROUNDS * 5 and time.perf_counter() < end:
        begin = time.perf_counter_ns()
        session.run(feeds)
        taken.append((time.perf_counter_ns() - begin) / 1e3)
    return np.array(taken)


def _estimate(times: np.ndarray[Any, Any]) -> Estimate:
    low, middle, high = np.quantile(times, (0.25, 0.5, 0.75))
    return Estimate(low=float(low), expected=float(middle), high=float(high), source="measured")


def _latency(plan: Plan, golden: GoldenCheck, times: np.ndarray[Any, Any]) -> list[Check]:
    label = plan.label(golden.shape)
    predicted = plan.prediction.latency_p50_us[golden.shape]
    p50_us = float(np.median(times))
    detail = (
        f"{label}p50 of a call {format_duration(p50_us)}, kernels predicted "
        f"{format_duration(predicted.expected)} (modelled)"
    )
    checks = [Check(name="latency", passed=True, detail=detail)]
    limit = plan.promise.latency_us
    if limit is not None:
        slo_us = float(np.percentile(times, plan.promise.latency_percentile))
        detail = (
            f"{label}p{plan.promise.latency_percentile:g} {format_duration(slo_us)}, "
            f"promised {format_duration(limit)}"
        )
        checks.append(Check(name="slo", passed=slo_us <= limit, detail=detail))
    return checks
