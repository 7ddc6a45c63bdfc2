"""Both ways to run each generated part: its kernels, or ONNX Runtime; timed where they will run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from planner.errors import InfoptError, UsageError
from planner.runtime.engine import Session, load
from planner.runtime.fused.driver import Driver
from planner.runtime.selection import write_verified
from planner.spec.manifest import Manifest
from planner.spec.verdict import Check
from planner.spec.verified import SegmentTiming, Verified
from planner.steps.fused.loops import Raced, apart_of, reaching
from planner.steps.fused.shares import Share
from planner.steps.workspace import Workspace
from planner.units import format_duration

_ROUNDS = 400
_BUDGET_S = 3.0
WARM_UP = 20
"""Calls before the first that is timed."""
Run = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class GeneratedPart:
    """One generated part, both ways."""

    folder: str
    fused: Run
    library: Run | None
    note: str
    kernel_us: Callable[[], dict[str, float]]
    """Times each kernel."""
    loops: tuple[str, ...] = ()
    """How its loops run here."""
    apart: Mapping[str, str] = field(default_factory=dict)
    """Kernels of loops whose launches run here, and why."""
    share: Share | None = None
    """How much shared memory its kernels ask for."""
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


def library_path(engine: Path) -> tuple[Session | None, str]:
    """The library path of the whole engine; None with the reason where it cannot run here."""
    try:
        return load(engine, verify_hashes=False, path="library"), ""
    except InfoptError as error:
        return None, f"ONNX Runtime cannot run it here: {error.what}"


def generated_parts(
    kernels: Session,
    library: Session | None,
    note: str,
    raced: Mapping[str, Sequence[Raced]] = MappingProxyType({}),
    shared: Mapping[str, Share] = MappingProxyType({}),
) -> list[GeneratedPart]:
    """Those parts of the engine that have kernels.

    Args:
        note: why there is no library path.
        raced: part -> what its loops took here beside their launches.
        shared: part -> the share of memory that its kernels ask for.
    """
    others = library.parts if library else [None] * len(kernels.parts)
    ways = zip(kernels.parts, others, strict=True)
    return [
        GeneratedPart(
            own.file,
            own.call,
            None if other is None else other.call,
            note,
            own.kernels.kernel_us,
            (*own.kernels.loops_text, *(one.text for one in raced.get(own.file, ()))),
            apart_of(raced.get(own.file, ())),
            shared.get(own.file),
        )
        for own, other in ways
        if own.kernels is not None
    ]


def time_parts(
    parts: list[GeneratedPart],
    kernels: Session,
    feeds: Mapping[str, Any],
    shape: str,
) -> None:
    """Both ways of every part on what really reaches it, alternating."""
    by_folder = {part.folder: part for part in parts}
    for own, given in reaching(kernels, feeds):
        part = by_folder.get(own.file)
        if part is None:
            continue
        ways: dict[str, Run] = {"fused": part.fused}
        if part.library is not None:
            ways["library"] = part.library
        for way, median_us in _alternate(ways, given).items():
            part.times[shape, way] = median_us


def _alternate(ways: Mapping[str, Run], feeds: dict[str, Any]) -> dict[str, float]:
    """Medians of calls, one way after the other in every round."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for run in ways.values():
        for _ in range(WARM_UP):
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


def faster(part: GeneratedPart) -> Check:
    """Which way the part runs from now on."""
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


def keep(
    engine: Path, manifest: Manifest, driver: Driver, parts: list[GeneratedPart], work: Workspace
) -> None:
    """Writes the choice beside the sealed files; where that cannot be, it is told."""
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
                loops=part.loops,
                apart=dict(part.apart),
                shared_percent=part.share.percent if part.share else None,
                shares_us=_told(part.share) if part.share else {},
            )
            for part in parts
        ),
    )
    try:
        write_verified(engine, verified)
    except UsageError as error:
        work.reporter.note(f"the choice cannot be kept: {error.what}")


def _told(share: Share) -> dict[str, float]:
    return {str(percent): us for percent, us in share.taken_us.items()}


def _of(part: GeneratedPart, way: str) -> dict[str, float]:
    return {shape: us for (shape, own), us in part.times.items() if own == way}
