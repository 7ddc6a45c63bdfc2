"""engine/manifest.json: what an engine directory contains and how to check it.

An engine is stages (one per set of devices), each a sequence of segments run one after the other.
No timestamps: the same plan gives the same bytes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.spec.base import Document
from planner.spec.plan import Environment, Estimate
from planner.spec.session import SessionSettings

MANIFEST_VERSION = 1


class FileEntry(Document):
    """One file of the engine directory, by path relative to it."""

    path: str
    size_bytes: int
    sha256: str


class TensorSpec(Document):
    """A named input or output: NumPy dtype name; None for a dimension only known at run time."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class OrtSegment(Document):
    """An ONNX part run by ONNX Runtime."""

    kind: Literal["ort"] = "ort"
    file: str
    """ONNX file, relative to the engine directory; its weights may lie in files beside it."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: SessionSettings


Segment = OrtSegment
"""A union once fused segments exist; `kind` tells them apart."""


class Stage(Document):
    """Segments on one set of devices, in order."""

    device: str = "cpu"
    segments: tuple[Segment, ...] = Field(min_length=1)


class GoldenCheck(Document):
    """Inputs and expected outputs (an .npz each) with the tolerance they are compared with."""

    shape: str = "default"
    """Name of the workload shape that the inputs have."""
    inputs: str
    outputs: str
    """Outputs of this engine when it was built."""
    reference: str
    """Outputs of the unchanged model on the same inputs."""
    max_nmse: float
    """Against `outputs`: run-to-run and machine-to-machine rounding only."""
    max_reference_nmse: float | None
    """Against `reference`: the plan's error budget; None where outputs are random by design."""
    skipped: tuple[str, ...] = ()
    """Outputs that differ from run to run by the model's own design."""


class Manifest(Document):
    """The engine's table of contents; `plan.json` lies beside it."""

    manifest_version: Literal[1] = 1
    name: str
    """Model name under which it is served."""
    plan_digest: str
    model_sha256: str
    environment: Environment
    """Where it was built and verified; another device is refused unless it verifies there."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stages: tuple[Stage, ...] = Field(min_length=1)
    golden: tuple[GoldenCheck, ...]
    """One per workload shape."""
    predicted_latency_us: dict[str, Estimate]
    """p50 per workload shape."""
    files: tuple[FileEntry, ...]
    """Every file of the directory except this one."""
    digest: str = ""
    """SHA-256 of this document with this field empty: tells a damaged or edited manifest."""
