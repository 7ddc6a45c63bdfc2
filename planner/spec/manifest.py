"""engine/manifest.json: what an engine directory contains and how to check it.

An engine is stages (one per set of ranks), each a sequence of segments run one after the other. A
rank is one process with one device. The ranks of a stage all run its segments, each its own file of
a sharded one, and talk in its collectives; a tensor that crosses from stage to stage is whole on
every rank of both. No timestamps: the same plan gives the same bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class StreamedTensor(Document):
    """One weight in a file of weights."""

    name: str
    """The session's input that takes it."""
    dtype: str
    shape: tuple[int, ...]
    offset: int = Field(ge=0)
    """Of its first byte; a multiple of the page size."""
    is_table: bool = False
    """Whether only rows of it are looked up: these are read where they lie, nothing is fetched."""


class StreamedWeights(Document):
    """Weights that no session keeps: they are fetched before the segment runs, and let go after."""

    file: str
    """Relative to the engine directory."""
    tensors: tuple[StreamedTensor, ...] = Field(min_length=1)


class OrtSegment(Document):
    """An ONNX part run by ONNX Runtime."""

    kind: Literal["ort"] = "ort"
    file: str
    """ONNX file, relative to the engine directory; its weights may lie in files beside it."""
    shards: tuple[str, ...] = ()
    """Files of the stage's second rank and those after it, where the ranks' parts differ; empty:
    all run `file`."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: SessionSettings
    streamed: StreamedWeights | None = None
    """Weights that come in while it runs, where it does not keep them itself; on one rank only."""

    @model_validator(mode="after")
    def _streams_on_one_rank(self) -> OrtSegment:
        if self.streamed is not None and self.shards:
            raise ValueError(f"{self.file}: streams its weights, so it cannot have shards")
        return self

    def file_of(self, position: int) -> str:
        """The file that the rank at this position of its stage runs."""
        return self.shards[position - 1] if position and self.shards else self.file

    @property
    def files(self) -> tuple[str, ...]:
        """Every ONNX file of the segment."""
        return (self.file, *self.shards)


class FusedSegment(Document):
    """Generated kernels as one CUDA graph, beside the library path that they must beat."""

    kind: Literal["fused"] = "fused"
    folder: str
    """Holds `fused.json`, weights and cubins; relative to the engine directory."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    library: OrtSegment
    """The same part for ONNX Runtime: run where it is faster (`verified.json`)."""
    shared_percent: int | None = Field(default=None, ge=-1, le=100)
    """Of a multiprocessor's memory: what its kernels ask for as shared memory until `infopt verify`
    has measured that, as the plan's were tuned; -1: as the driver chooses. None: the default."""


class CollectiveSegment(Document):
    """What the ranks of a stage do together to one tensor."""

    kind: Literal["collective"] = "collective"
    operation: Literal["all_reduce", "all_gather", "reduce_scatter", "split"]
    """`all_reduce` adds what the ranks hold; `all_gather` joins their slices along `axis`;
    `reduce_scatter` adds and leaves each rank its slice; `split` keeps the own slice of a whole."""
    tensor: str
    result: str
    axis: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _axis_where_needed(self) -> CollectiveSegment:
        if (self.axis is None) != (self.operation == "all_reduce"):
            wish = "needs an" if self.axis is None else "has no"
            raise ValueError(f"{self.operation} {wish} axis")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.tensor,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What it makes."""
        return (self.result,)


Segment = Annotated[OrtSegment | FusedSegment | CollectiveSegment, Field(discriminator="kind")]
"""`kind` tells them apart."""


class Stage(Document):
    """Segments on one set of ranks, in order."""

    device: str = "cpu"
    """Kind of the ranks' devices: `cpu`, or `cuda` (rank n runs on GPU n)."""
    ranks: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Who runs it. Stages on the same ranks share their processes; an engine of rank 0 alone needs
    no other process."""
    segments: tuple[Segment, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Stage:
        if len(set(self.ranks)) != len(self.ranks) or min(self.ranks) < 0:
            raise ValueError(f"ranks {self.ranks} are not distinct numbers from 0")
        for segment in self.segments:
            if segment.kind == "ort" and segment.shards and len(segment.files) != len(self.ranks):
                raise ValueError(
                    f"{segment.file}: {len(segment.files)} shards for {len(self.ranks)} ranks"
                )
        return self


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
    built_for: str | None = None
    """Profile of the device it was built for away from it: unverified until `infopt verify` has run
    there; None: built and verified where it runs."""
    files: tuple[FileEntry, ...]
    """Every file of the directory except this one."""
    digest: str = ""
    """SHA-256 of this document with this field empty: tells a damaged or edited manifest."""

    @property
    def ranks(self) -> int:
        """How many processes run it."""
        return 1 + max(rank for stage in self.stages for rank in stage.ranks)

    @property
    def ort_segments(self) -> tuple[OrtSegment, ...]:
        """The segments that ONNX Runtime runs, or can run, in order."""
        found = [
            segment.library if isinstance(segment, FusedSegment) else segment
            for stage in self.stages
            for segment in stage.segments
        ]
        return tuple(segment for segment in found if isinstance(segment, OrtSegment))

    @property
    def is_streamed(self) -> bool:
        """Whether some weights stay outside the sessions."""
        return any(segment.streamed is not None for segment in self.ort_segments)

    @property
    def fused_segments(self) -> tuple[FusedSegment, ...]:
        """The segments with generated kernels, in order."""
        found = (segment for stage in self.stages for segment in stage.segments)
        return tuple(segment for segment in found if isinstance(segment, FusedSegment))
