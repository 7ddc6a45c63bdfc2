"""What a check of an engine found, and what a dry run would do: for people and as JSON."""

from __future__ import annotations

from pydantic import Field

from planner.spec.base import Document
from planner.spec.plan import Estimate, WorkloadShape
from planner.spec.reading import Reading


class Check(Document):
    """One thing that was verified."""

    name: str
    """What was checked: `files`, `device`, `outputs`, `accuracy`, `latency`, ..."""
    passed: bool
    detail: str
    """What was found, with numbers."""


class Undisturbed(Document):
    """One workload shape in the tenth of the rounds that neighbours slowed down the least,
    microseconds: medians jump between two states where neighbours hold the hardware half of the
    time, this tenth does not."""

    predicted: Estimate
    """At the machine's speed in these rounds."""
    measured_us: float


class Verdict(Document):
    """Whether an engine keeps what its plan promised, on this machine, now."""

    engine: str
    """The engine directory."""
    passed: bool
    is_unverified: bool = False
    """Complete as far as this machine can tell, but built for a device that is not here."""
    checks: tuple[Check, ...] = Field(min_length=1)
    predicted_us: dict[str, Estimate] = Field(default_factory=dict)
    """Predicted p50 per workload shape."""
    measured_us: dict[str, Estimate] = Field(default_factory=dict)
    """Measured p50 per workload shape."""
    undisturbed_us: dict[str, Undisturbed] = Field(default_factory=dict)
    """Per workload shape, of engines of one part."""
    warnings: tuple[str, ...] = ()


class PendingMeasurement(Document):
    """A kernel that a plan would measure."""

    kernel: str
    """Operator type and shapes, as reports name it."""
    ops: int
    """Operators of the model that share it."""
    variants: tuple[str, ...]
    """Formats and settings it would be measured in."""


class DryRun(Document):
    """What `infopt plan` would do, found without measuring anything."""

    model: str
    ops: int
    """Operators after simplification."""
    parameters: int
    weights_size_bytes: int
    workload: tuple[WorkloadShape, ...]
    """Shapes with every dynamic dimension bound."""
    measured: int = 0
    """Measurements already in the store."""
    pending: tuple[PendingMeasurement, ...] = ()
    warnings: tuple[str, ...] = ()
    reading: Reading | None = None
    """With `no_weights`: what was read; then nothing can be measured."""
