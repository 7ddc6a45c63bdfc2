"""profiles/*.yaml: what is known of a device and its links. A new device needs one file, no code.

Every number carries its unit and its source: a datasheet, a measurement, or an estimate that says
so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from planner.spec.base import Document
from planner.spec.problems import explain, path_text
from planner.spec.quantities import FROM_TEXT, refusal
from planner.spec.writing import write_atomically
from planner.spec.yaml_source import KeyPath, load
from planner.spec.yaml_text import to_yaml

Unit = Literal["bytes", "bytes/s", "flop/s", "op/s", "us", "Hz", "W", "USD/h"]


_MEMORY_TOLERANCE = 0.15
"""Between a datasheet's memory and what a driver reports: binary gigabytes and error correction."""


class Quantity(Document):
    """A number that says where it comes from."""

    value: float = Field(ge=0)
    """In `unit`."""
    unit: Unit
    """Base units only, so that nothing needs converting."""
    source: str = Field(min_length=1)
    """`measured`, a datasheet with its page, or `estimate: why`."""
    measured_on: str | None = None
    """What it was measured on, where it was measured: processor and library versions."""
    low: float | None = Field(default=None, ge=0)
    """Lower end of the 95 % interval, where it was measured."""
    high: float | None = Field(default=None, ge=0)
    """Upper end of the 95 % interval."""

    @model_validator(mode="after")
    def _lies_within(self) -> Quantity:
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:
            raise refusal(f"{self.value:g} lies outside of its interval", key="value")
        return self


class Link(Document):
    """A way for data to move: latency plus bytes over bandwidth."""

    latency: Quantity
    """From asking to the first byte."""
    bandwidth: Quantity
    """One direction, sustained."""


class DeviceProfile(Document):
    """A device: memory, speed per format, launch costs, links, price."""

    profile_version: Literal[1] = 1
    """Version of this document's format."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """As `--target` names it; also the file's name."""
    kind: Literal["cpu", "cuda", "rocm"]
    """Which execution provider runs on it; nothing is planned for `rocm`, it is priced alone."""
    title: str
    """The device's name as its maker writes it."""
    architecture: str | None = None
    """Instruction set or compute capability: `x86-64-v4`, `sm_90`."""
    units: int = Field(ge=1)
    """Physical cores, or streaming multiprocessors."""
    memory_size: Quantity
    """Capacity per device."""
    reported_memory: Quantity | None = None
    """What the driver reports of it, where that is known: a datasheet's gigabytes are binary or
    decimal, and error correction takes its share. Plans fill `memory_size` at most."""
    memory_bandwidth: Quantity
    """Sustained by one device reading its own memory."""
    peak: dict[str, Quantity] = Field(min_length=1)
    """Multiply-add rate of a dense GEMM per format: `fp32`, `fp16`, `int8`, ... (2 per FMA)."""
    sustained: dict[str, Quantity] = Field(default_factory=dict)
    """Rates that board power allows under load, where these are below the peak."""
    clock: Quantity | None = None
    """Highest sustained clock of the multiprocessors."""
    cache_size: Quantity | None = None
    """Last cache shared by the whole device (L2 on a GPU)."""
    launch: Quantity | None = None
    """Cost of starting one kernel or operator."""
    barrier: Quantity | None = None
    """Cost of one barrier across the whole device inside a kernel."""
    shared_memory_per_unit: Quantity | None = None
    """On-chip memory a kernel may use per multiprocessor."""
    ceilings: dict[str, Quantity] = Field(default_factory=dict)
    """Everything else that was measured, by name: bandwidth per cache, GEMM rate per shape and
    number of threads, cost of a call, of waking the thread pool."""
    links: dict[str, Link] = Field(default_factory=dict)
    """To `host` and to a neighbour device, `peer`."""
    power: Quantity | None = None
    """Board power under load."""
    price: Quantity | None = None
    """What one device costs by the hour."""

    @field_validator("peak", "sustained")
    @classmethod
    def _counts_operations(cls, peak: dict[str, Quantity]) -> dict[str, Quantity]:
        for name, rate in peak.items():
            if rate.unit not in ("flop/s", "op/s"):
                raise refusal(f"the peak of {name} is not in flop/s or op/s", key=name)
            _refuse_zero(rate, name)
        return peak

    @field_validator("memory_size", "memory_bandwidth")
    @classmethod
    def _is_something(cls, found: Quantity) -> Quantity:
        _refuse_zero(found)
        return found

    @model_validator(mode="after")
    def _agrees(self) -> DeviceProfile:
        """Numbers that cannot all be right are refused: one of them has a slip of the pen."""
        for name, rate in self.sustained.items():
            if name not in self.peak:
                raise refusal(f"{name} has a sustained rate but no peak", key="sustained")
            if rate.value > self.peak[name].value:
                raise refusal(f"{name} sustains more than its peak", key="sustained")
        if self.cache_size is not None and self.cache_size.value >= self.memory_size.value:
            raise refusal("the cache is as large as the memory", key="cache_size")
        reported = self.reported_memory
        if reported is not None and not _is_near(reported.value, self.memory_size.value):
            raise refusal(
                f"the driver reports {reported.value:.4g} bytes of {self.memory_size.value:.4g}",
                key="reported_memory",
            )
        sparse, dense = self.peak.get("2:4"), self.peak.get("fp16")
        if sparse is not None and dense is not None and sparse.value < dense.value:
            raise refusal("2:4 has a lower peak than fp16", key="peak")
        return self


def _refuse_zero(found: Quantity, key: str | None = None) -> None:
    if found.value <= 0:
        raise refusal("must be more than 0", key=key)


def _is_near(one: float, other: float) -> bool:
    return abs(one / other - 1) <= _MEMORY_TOLERANCE


def read_profile(path: Path) -> DeviceProfile:
    """Reads a device profile.

    Raises:
        SpecError: not a profile; says which line.
    """
    source = load(path)

    def where(at: KeyPath) -> str:
        known = (source.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in source.lines)
        return f"{path}:{next(known, 1)}: {path_text(at)}"

    try:
        return DeviceProfile.model_validate(source.data, context=FROM_TEXT)
    except ValidationError as error:
        raise explain(error, DeviceProfile, where) from error


def write_profile(path: Path, profile: DeviceProfile) -> None:
    """Writes a device profile atomically.

    Raises:
        UsageError: the folder is missing, read-only or full.
    """
    data = profile.model_dump(mode="json", by_alias=True, exclude_none=True)
    write_atomically(path, to_yaml(data).encode())
