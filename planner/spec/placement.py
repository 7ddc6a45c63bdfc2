"""The `placement` section of plan.json: stages on devices, where weights live, alternatives.

Which rank computes which part of what stands in `execution`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.spec.base import Document
from planner.spec.estimate import Estimate


class GroupPlan(Document):
    """Operators decided together."""

    name: str
    stage: int
    ops: tuple[str, ...]
    weighted: tuple[str, ...]
    """Operators whose weights have `format`."""
    format: str
    style: str
    """What is cut, in words: `whole`, `cut: columns and rows of 6 weights, heads of attention`."""
    residency: Literal["device", "host", "peer"]
    weight_size_bytes: int
    """Of each rank."""
    latency_us: dict[str, float]
    """Per workload shape, expected."""


class MemoryBar(Document):
    """What is in the memory of each device of a stage, at its fullest."""

    weights: int
    cache: int
    activations: int
    """Live tensors, scratch memory and buffers of weights that stream in."""
    runtime: int
    """Context, libraries, inputs."""
    capacity: int

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self.weights + self.cache + self.activations + self.runtime


class StagePlan(Document):
    """Consecutive groups on the same devices."""

    devices: int
    """Ranks that share its tensors."""
    groups: int
    first: str
    """Its first group."""
    ops: int
    memory: MemoryBar
    streamed_size_bytes: int
    """Weights that stream into each device, per run."""
    formats: dict[str, int]
    """Weighted operators per format."""
    latency_us: dict[str, float]
    receives_size_bytes: dict[str, int] = Field(default_factory=dict)
    """From earlier stages, per workload shape."""


class MadeAgain(Document):
    """An activation that is not kept for a late group, which makes it again."""

    tensor: str
    group: str
    """The late group."""
    ops: tuple[str, ...]
    """That make it, in order; their weights are stored with the late group once more."""
    size_bytes: int
    """What keeping it would take on one device, under the workload shape that needs most."""
    latency_us: dict[str, float]
    """What making it again adds, per workload shape."""


class Breakdown(Document):
    """Where the expected latency of one workload shape goes, microseconds."""

    compute_us: float
    memory_us: float
    communication_us: float
    launch_us: float
    swap_us: float
    """Streaming of weights that computing does not hide."""
    floor_us: float
    """What the peaks of the devices in use allow: arithmetic or memory, whichever is longer."""


class Alternative(Document):
    """Another answer to the same request."""

    name: str
    """What is different: `1 GPU`, `16 GPUs without compression`, ..."""
    status: Literal["chosen", "feasible", "uncertain", "infeasible", "unknown"]
    devices: int = 0
    layout: str = ""
    """`2 stages x 8 GPUs`."""
    formats: dict[str, int] = Field(default_factory=dict)
    streamed_size_bytes: int = 0
    """Into each device, per run."""
    latency_us: dict[str, float] = Field(default_factory=dict)
    query_us: float | None = None
    """Expected time of the whole workload: each shape as often as its weight says."""
    price_per_hour: float | None = None
    price_per_query: float | None = None
    energy_per_query_j: float | None = None
    error: float | None = None
    gap: float | None = None
    reason: str = ""


class PlacementPlan(Document):
    """One way to run a model on several devices, with what it was compared with."""

    device: str
    """Name of the device profile."""
    node: str | None
    """Name of the node profile."""
    devices: int
    layout: str
    base_format: str
    """Of everything without a format of its own."""
    stages: tuple[StagePlan, ...]
    groups: tuple[GroupPlan, ...]
    recomputed: tuple[MadeAgain, ...] = ()
    """Activations that are made again, since memory is short."""
    breakdown: dict[str, Breakdown]
    """Per workload shape."""
    query: Estimate
    """Time of the whole workload, microseconds."""
    price_per_hour: float | None
    price_per_query: float | None
    price_source: str
    energy_per_query_j: float | None = None
    """Board power times the time that devices work for one query."""
    alternatives: tuple[Alternative, ...]
    slo_cost: str
    """What keeping the latency promise costs."""
    excluded: dict[str, str] = Field(default_factory=dict)
    """Formats that were not offered, with the reason."""
    whole_ops: dict[str, int] = Field(default_factory=dict)
    """Operators that no rule cuts, by type: every rank computes them whole."""
    error_basis: str = ""
    """What the predicted error rests on."""
