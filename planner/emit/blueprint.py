"""What goes into an engine directory, before any of it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.emit.golden import Golden
from planner.spec.manifest import CollectiveSegment, StreamedTensor, TensorSpec
from planner.spec.plan import Environment, Estimate, Plan
from planner.spec.session import SessionSettings

STREAMED = "streamed.bin"
"""File of weights that are fetched for each run of a part, in its folder."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Weights in a file of their own."""

    path: Path
    tensors: tuple[StreamedTensor, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """An ONNX file to be packed, with the external data it refers to."""

    onnx_path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: SessionSettings
    is_temporary: bool = False
    """True: nobody else writes to these files, so weights are hard-linked instead of copied."""
    device: str = "cpu"
    """Consecutive parts on one device and the same ranks make a stage."""
    ranks: tuple[int, ...] = (0,)
    """Who runs it."""
    shard_paths: tuple[Path, ...] = ()
    """Files of the second rank and those after it, where the ranks' parts differ."""
    fused_path: Path | None = None
    """Folder of the same part as generated kernels; `onnx_path` is the library path then."""
    shared_percent: int | None = None
    """What those kernels ask for as shared memory, where it was measured for them."""
    outside: Outside | None = None
    """Weights that stream in; they are inputs of the ONNX file, but not among `inputs`."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A collective between parts of a sharded stage."""

    segment: CollectiveSegment
    device: str
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that goes into an engine."""

    name: str
    """Model name under which it is served."""
    plan: Plan
    parts: tuple[Part | Talk, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    goldens: tuple[Golden, ...]
    environment: Environment
    predicted_latency_us: Mapping[str, Estimate]
    """p50 per workload shape."""
    built_for: str | None = None
    """Device profile, where this machine is not what it is built for."""
