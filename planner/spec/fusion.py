"""The part of plan.json that says which kernels run a model: groups, edges, resources, floor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.spec.base import Document

NumberFormat = Literal["float16", "bfloat16", "float32"]
Edge = Literal["first", "dependent launch", "graph node", "loop"]
"""How a launch follows its predecessor: early, waiting inside for its data; once that ended; or as
the next step of a loop in one kernel, whose blocks wait for each other."""


class StagePlan(Document):
    """What one block range of a kernel computes: a tensor, from others in memory."""

    root: str
    also: tuple[str, ...] = ()
    """Tensors of the root's shape that are written beside it."""
    reads: tuple[str, ...]
    """Tensors read from memory; what lies between is computed on chip."""
    config: dict[str, int]
    """Tile sizes, warps and the like."""


class LaunchPlan(Document):
    """One kernel launch: a group, or independent ones side by side."""

    name: str
    kernel: str
    """Launches of equal source share one kernel."""
    ops: tuple[str, ...]
    """ONNX operators whose results it computes, wherever they are kept."""
    stages: tuple[StagePlan, ...] = Field(min_length=1)
    edge: Edge
    lets_go_early: bool = False
    """Whether what follows may start at its start, or only once it has its own inputs."""
    level: int = Field(ge=0)
    """Length of the longest chain of launches before it."""
    programs: int = Field(ge=1)
    """Thread blocks."""
    warps: int = Field(ge=1)
    predicted_us: float
    floor_us: float
    """What its traffic and arithmetic take at the device's full rates."""
    kept_bytes: int
    """Intermediate tensors that never reach memory."""
    moved_bytes: int
    """Activations read and written."""


class FloorPlan(Document):
    """What no schedule beats on this device: launch + max(memory, compute) + levels."""

    total_us: float
    launch_us: float
    memory_us: float
    compute_us: float
    levels: int
    """The longest chain of contractions of the operator graph."""
    level_us: float


class SegmentPlan(Document):
    """A part of the model that runs as generated kernels, or by ONNX Runtime alone."""

    kind: Literal["fused", "ort"]
    ops: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    launches: tuple[LaunchPlan, ...] = ()
    shared_percent: int | None = Field(default=None, ge=-1, le=100)
    """Of a multiprocessor's memory: what the kernels asked for as shared memory while they were
    tuned; -1: as the driver chooses. None: they were not."""
    predicted_us: float
    reasons: tuple[str, ...] = ()
    """Of `ort`: why no code is generated, operator by operator; of `fused`: which runs of equal
    launches are no loops, and why."""


class BucketPlan(Document):
    """The model under one workload shape."""

    shape: str
    segments: tuple[SegmentPlan, ...] = Field(min_length=1)
    predicted_us: float
    measured_us: float | None = None
    """Device time of the generated parts, where the device was here when this was planned."""
    floor: FloorPlan
    arena_size_bytes: int
    """Intermediates, planned by liveness."""

    @property
    def in_a_row(self) -> int:
        """Launches, steps of loops and operators of library parts, each of which waits for the one
        in front of it: all of them, for a device runs one after the other."""
        return sum(len(one.launches or one.ops) for one in self.segments)

    @property
    def levels(self) -> int:
        """Those of them that wait for what another one made: the least there could be in a row with
        these groups."""
        return sum(
            max(launch.level for launch in one.launches) + 1 if one.launches else len(one.ops)
            for one in self.segments
        )

    @property
    def distance(self) -> float:
        """Predicted time over the floor."""
        return self.predicted_us / self.floor.total_us


class FusionPlan(Document):
    """How a model of static shapes becomes kernels."""

    device: str
    """Name of the device profile that prices were made for."""
    architectures: tuple[int, ...] = Field(min_length=1)
    """Compute capabilities the engine is compiled for: 80, 89, 90."""
    number_format: NumberFormat
    """How weights and intermediates are stored and multiplied."""
    rounding_error: float = 0.0
    """NMSE of rounding to it on the way: right answers may differ by as much from machine to
    machine."""
    buckets: tuple[BucketPlan, ...] = Field(min_length=1)
    """One per workload shape; weights and equal kernels are shared."""
    covered_ops: int
    """Operators that code can be generated for."""
    ops: int
    operators_in_a_row: int = 0
    """The longest chain of operators that take a kernel each when nothing is fused, steps of a
    recurrence one by one; 0: not known."""
