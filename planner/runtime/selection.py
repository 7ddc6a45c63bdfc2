"""Which way each generated part of an engine runs on this device: what `infopt verify` found."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from planner.errors import SpecError
from planner.runtime.fused.driver import Driver
from planner.runtime.integrity import VERIFIED
from planner.spec.io import canonical_json, read_verified_file
from planner.spec.manifest import FusedSegment, Manifest, OrtSegment
from planner.spec.verified import Verified
from planner.spec.writing import write_atomically

ExecutionPath = Literal["verified", "fused", "library"]
"""How parts with generated kernels run."""


def read_verified(directory: Path, manifest: Manifest) -> Verified | None:
    """What was found for this engine on this device; None where nothing was, or elsewhere.

    Raises:
        EnvironmentMismatchError: no usable GPU.
    """
    path = directory / VERIFIED
    if not path.exists():
        return None
    try:
        found = read_verified_file(path)
    except SpecError:
        return None  # measured again by the next verify; the engine itself is whole
    is_same_engine = found.manifest_digest == manifest.digest
    return found if is_same_engine and found.device == Driver().name else None


def write_verified(directory: Path, verified: Verified) -> None:
    """Keeps what was found beside the manifest.

    Raises:
        UsageError: the folder is read-only or full.
    """
    write_atomically(directory / VERIFIED, canonical_json(verified))


def known_of(directory: Path, manifest: Manifest, path: ExecutionPath) -> Verified | None:
    """What `infopt verify` found here, where that decides.

    Raises:
        EnvironmentMismatchError: there are kernels to run, and no GPU.
    """
    if not manifest.fused_segments or path != "verified":
        return None
    return read_verified(directory, manifest)


def selected(
    manifest: Manifest, path: ExecutionPath, known: Verified | None
) -> tuple[OrtSegment | FusedSegment, ...]:
    """Which way each part runs."""
    if not manifest.fused_segments or path == "library":
        return manifest.ort_segments
    found = [segment for stage in manifest.stages for segment in stage.segments]
    return tuple(
        segment.library
        if isinstance(segment, FusedSegment)
        and known is not None
        and known.choice(segment.folder) == "library"
        else segment
        for segment in found
        if isinstance(segment, OrtSegment | FusedSegment)
    )
