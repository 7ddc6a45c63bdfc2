"""What a deploy target is: a check of the request, and files written into a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.spec.manifest import Manifest, OrtSegment
    from planner.spec.plan import Plan


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants of a target."""

    replicas: int = 1
    """Copies of the engine that answer side by side."""
    storage_uri: str | None = None
    """Where the target will find what it serves, e.g. `s3://models/kws` (KServe)."""
    image: str | None = None
    """A container image with infopt in it (KServe)."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is taken elsewhere: an engine that has kept its promise here."""

    engine: Path
    manifest: Manifest
    plan: Plan
    wishes: Wishes

    @property
    def segments(self) -> tuple[OrtSegment, ...]:
        """What ONNX Runtime runs, in order."""
        return self.manifest.ort_segments


@dataclass(frozen=True, slots=True)
class Written:
    """What the user must know of the files that were written."""

    start: str
    """The command that puts them to use; `{folder}` stands for where they are."""
    notes: tuple[str, ...] = ()
    """In what the target differs from what was measured."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place where an engine can be taken."""

    name: str
    """As in `--to`."""
    summary: str
    check: Callable[[Wishes], None]
    """Refuses, before anything is built, what this target cannot do (UsageError)."""
    write: Callable[[Source, Path], Written]
    """Writes all files below an empty folder."""


def accept(_: Wishes) -> None:
    """The check of a target that takes any wishes."""


def cores(source: Source) -> int:
    """Cores that one copy of the engine keeps busy, over all its ranks; where a plan leaves that to
    ONNX Runtime, all of this machine's, on which it has just kept its promise."""
    from planner.runtime.fingerprint import usable_cores

    threads = max(segment.settings.intra_op_threads for segment in source.segments)
    return threads * source.manifest.ranks or usable_cores()


def peak_size_bytes(plan: Plan) -> float:
    """Peak memory of the process that ran what ships; the prediction where none was timed."""
    timings = plan.guard.timings if plan.guard else ()
    shipped = plan.guard.shipped if plan.guard else ""
    measured = next((timing.memory_size_bytes for timing in timings if timing.name == shipped), 0)
    return max(plan.prediction.memory_size_bytes.high, float(measured or 0))
