"""What plans run on: device types, places for stages, links between them, stores for weights.

Units: bytes, microseconds, bytes per microsecond (1 GB/s = 1,000 bytes/us), euros or dollars an
hour. A device type may stand for the devices of one node: then links between types carry levels.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """A type of device (C4, C11)."""

    name: str
    memory_size_bytes: int | None = None
    """Capacity of each device; None means no limit."""
    count: int | None = None
    """How many there are; None means as many as wanted."""
    price_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage may run: `degree` devices of one type that share its tensors (TP)."""

    name: str
    device: str
    """Name of a `Device`."""
    degree: int = 1


@dataclass(frozen=True, slots=True)
class Link:
    """From devices of one type to devices of another (or the same): alpha + bytes / beta (C6)."""

    source: str
    """Name of a `Device`."""
    target: str
    latency_us: float
    """alpha"""
    bytes_per_us: float
    """beta"""

    def time_us(self, size_bytes: float) -> float:
        """How long one transfer takes."""
        return self.latency_us + size_bytes / self.bytes_per_us


@dataclass(frozen=True, slots=True)
class Store:
    """Where weights may live between runs, and how they stream in (C7): host, or a peer device.

    A weight that lives here is fetched once an inference, in the order of the operators, one after
    another over the store's link. It may start once the operator `ahead` + 1 positions earlier has
    finished, and it occupies its bytes from `ahead` positions before its operator until that is
    done. Streams of different stores do not disturb each other.
    """

    name: str
    latency_us: float
    """alpha of one fetch."""
    bytes_per_us: float
    """beta of the link into one device."""
    ahead: int = 1
    """Prefetch window: how many positions (of `Problem.ops`) before its use a fetch may start."""
    devices: tuple[str, ...] = ()
    """Device types that reach it; empty: all."""
    memory_size_bytes: int | None = None
    """What it holds at most, over all stages and ranks."""
    slot_size_bytes: int | None = None
    """What may be in flight at most, in each device."""
    is_shared: bool = False
    """All devices share one link: a fetch takes `degree` times as long, and per inference the
    fetches of all stages together take no longer than the period (C9)."""
    extra_devices: int = 0
    """Devices that count (C11) once any weight lives here: the peer."""
    price_per_hour: float = 0.0
    """Price that counts once any weight lives here."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Memory occupied at the time points start <= time < end, on each device of the stage (C4).

    Time points are integers that mean the same for all options: positions in the order of
    execution, one range of them per workload shape. Weights hold always and are no `Hold`.
    """

    start: int
    end: int
    size_bytes: int
