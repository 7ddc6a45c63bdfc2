"""profiles/*.yaml: what is known of a device and its links. A new device needs one file, no code.

Every number carries its unit and its source: a datasheet, a measurement, or an estimate that says
so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from planner.spec.base import Document
from planner.spec.io import write_atomically
from planner.spec.problems import explain, path_text
from planner.spec.quantities import FROM_TEXT, refusal
from planner.spec.yaml_source import KeyPath, load
from planner.spec.yaml_text import to_yaml

Unit = Literal["bytes", "bytes/s", "flop/s", "op/s", "us", "Hz", "W", "USD/h"]


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
    kind: Literal["cpu", "cuda"]
    """Which execution provider runs on it."""
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
        return peak


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
