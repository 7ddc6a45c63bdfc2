"""engine/verified.json: what a target found when it timed both ways to run each fused part.

Not among the hashed files: the engine stays byte for byte what was built, and another target
measures for itself.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.spec.base import Document

VERIFIED_VERSION = 1


class SegmentTiming(Document):
    """One fused part, both ways, interleaved."""

    folder: str
    """Of the part, relative to the engine directory."""
    choice: Literal["fused", "library"]
    """The faster one: what is run from now on."""
    fused_us: dict[str, float] = Field(default_factory=dict)
    """Median of a call per workload shape."""
    library_us: dict[str, float] = Field(default_factory=dict)
    """Empty where ONNX Runtime could not run it here."""
    kernel_us: dict[str, float] = Field(default_factory=dict)
    """One launch of each kernel in a chain of its like."""
    note: str = ""
    loops: tuple[str, ...] = ()
    """Of each loop: whether it is one here, or why its launches run."""
    apart: dict[str, str] = Field(default_factory=dict)
    """Kernels of loops whose launches are better here, and why: they run from now on."""
    shared_percent: int | None = Field(default=None, ge=-1, le=100)
    """Of a multiprocessor's memory: what its kernels ask for as shared memory from now on; -1: as
    the driver chooses. None: the default."""
    shares_us: dict[str, float] = Field(default_factory=dict)
    """What the graphs of all shapes took with each share that was tried."""


class Verified(Document):
    """Which way each part runs on one device."""

    verified_version: Literal[1] = 1
    manifest_digest: str
    """Of the engine this was measured on."""
    device: str
    """Name, as the driver says it."""
    architecture: int
    driver: int
    """Version of the CUDA driver, as it says it: 13000."""
    segments: tuple[SegmentTiming, ...]

    @property
    def apart(self) -> dict[str, dict[str, str]]:
        """Part -> kernels of loops that run as launches, and why."""
        return {timing.folder: timing.apart for timing in self.segments}

    @property
    def shared_percent(self) -> dict[str, int]:
        """Part -> the share of a multiprocessor's memory that its kernels ask for."""
        return {
            timing.folder: timing.shared_percent
            for timing in self.segments
            if timing.shared_percent is not None
        }

    def choice(self, folder: str) -> Literal["fused", "library"]:
        """How a part runs; what was not timed runs fused."""
        found = (timing.choice for timing in self.segments if timing.folder == folder)
        return next(found, "fused")
