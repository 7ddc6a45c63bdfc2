"""Does an engine of generated kernels keep its promise here, and which way does each part run?

On a machine without such a GPU only files and cubins can be checked: the engine stays unverified.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError
from planner.runtime import integrity
from planner.runtime.engine import Session, load
from planner.runtime.fused import manifest as fused
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.loops import described
from planner.runtime.tensors import read_tensors
from planner.runtime.verify import verify_outputs
from planner.spec.io import read_plan
from planner.spec.manifest import FusedSegment, GoldenCheck, Manifest
from planner.spec.plan import Estimate, Plan
from planner.spec.verdict import Check, Verdict
from planner.steps.fused.loops import Raced, apart_of, golden_feeds, races
from planner.steps.fused.paths import (
    WARM_UP,
    faster,
    generated_parts,
    keep,
    library_path,
    time_parts,
)
from planner.steps.fused.shares import Share, shares
from planner.steps.rates import throughput_checks
from planner.steps.unverified import unverified
from planner.steps.workspace import Workspace
from planner.units import format_duration

_ROUNDS = 400
_BUDGET_S = 3.0


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
        return unverified(engine, plan, checks, str(manifest.built_for), error.what)
    with kernels:
        raced = races(engine, manifest, kernels)
    apart = {folder: apart_of(found) for folder, found in raced.items()}
    with load(engine, verify_hashes=False, path="fused", apart=apart) as kernels:
        given = golden_feeds(engine, manifest, kernels)
        shared = shares(engine, kernels, given, apart)
    percent = {folder: share.percent for folder, share in shared.items()}
    with load(
        engine, verify_hashes=False, path="fused", apart=apart, shared_percent=percent
    ) as kernels:
        return _verified(engine, manifest, plan, checks, kernels, raced, shared, work)


def _kernels(engine: Path, segment: FusedSegment) -> Check:
    """Every launch has a binary for every architecture, and none of them spills; loops may be
    launches instead."""
    found = fused.read(engine / segment.folder)
    architectures = sorted({item.architecture for item in found.binaries})
    there = {(item.kernel, item.architecture) for item in found.binaries}
    wanted = {(kernel, a) for a in architectures for kernel in found.on(a).needed_kernels}
    newest = found.on(architectures[-1]) if architectures else found
    spilling = sorted({item.kernel for item in found.binaries if item.stack_size_bytes})
    names = ", ".join(f"sm_{value}" for value in architectures)
    detail = (
        f"{segment.folder}: {len(newest.launches)} launches of "
        f"{len({launch.kernel for launch in newest.launches})} kernels for {names}"
    )
    if spilling:
        detail += f"; {len(spilling)} keep values in local memory"
    detail += "".join(f"; {text}" for text in described(found))
    if wanted - there:
        detail += f"; {len(wanted - there)} binaries are absent"
    return Check(name="kernels", passed=wanted <= there, detail=detail)


def _verified(
    engine: Path,
    manifest: Manifest,
    plan: Plan,
    checks: list[Check],
    kernels: Session,
    raced: Mapping[str, Sequence[Raced]],
    shared: Mapping[str, Share],
    work: Workspace,
) -> Verdict:
    driver = Driver()
    detail = f"{driver.name}, sm_{driver.architecture}, driver {driver.version}"
    checks.append(Check(name="device", passed=True, detail=detail))
    checks += [
        Check(name=found.name, passed=found.is_kept, detail=found.detail)
        for found in verify_outputs(kernels)
    ]
    checks += [Check(name="loops", passed=True, detail=text) for text in kernels.loops]
    checks += [
        Check(name="loops", passed=True, detail=f"{folder}: {one.text}")
        for folder, found in raced.items()
        for one in found
    ]
    checks += [
        Check(name="shared memory", passed=True, detail=f"{folder}: {one.text}")
        for folder, one in shared.items()
        if one.taken_us
    ]
    work.reporter.stage("measure")
    library, note = library_path(engine)
    parts = generated_parts(kernels, library, note, raced, shared)
    for golden in manifest.golden:
        time_parts(parts, kernels, read_tensors(engine / golden.inputs), golden.shape)
    checks += [faster(part) for part in parts]
    keep(engine, manifest, driver, parts, work)
    measured: dict[str, Estimate] = {}
    with load(engine, verify_hashes=False) as chosen:
        for golden in manifest.golden:
            times = _call_us(chosen, read_tensors(engine / golden.inputs))
            measured[golden.shape] = _estimate(times)
            checks += _latency(plan, golden, times)
    checks += throughput_checks(plan, {name: found.expected for name, found in measured.items()})
    return Verdict(
        engine=str(engine),
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        predicted_us=plan.prediction.latency_p50_us,
        measured_us=measured,
        warnings=tuple(text for text in plan.warnings if "`infopt verify`" not in text),
    )


def _call_us(session: Session, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    for _ in range(WARM_UP):
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
