"""What a plan draws from the wall: power by what bounds the device, times time.

    joules = devices * (board * compute_us + memory * memory_us + idle * waiting_us)

A device whose arithmetic is the bound draws its board power, one whose memory is the bound a share
of it, and one that waits (launches, messages, copies that nothing hides) what its clocks and its
memory need. Times are those a price is made of (`planner/place/price.py`, `Parts`).

    power = Power.of(device)                                  # None: the profile states no power
    power.joules(compute_us=900, memory_us=400, waiting_us=50) -> Energy(low, expected, high)

The board's power is the profile's; the two shares are estimates and their spread is the interval:
no energy was measured for this project.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.spec.profile import DeviceProfile

MEMORY_SHARE = (0.5, 0.65, 0.85)
"""Of board power while memory is the bound: estimate; low, expected, high."""
IDLE_SHARE = (0.12, 0.2, 0.35)
"""Of board power at full clocks with nothing to do: estimate; low, expected, high."""
COMPUTE_SHARE = (0.7, 0.95, 1.0)
"""Of board power while arithmetic is the bound: large products run into the limit, small ones stay
below: estimate; low, expected, high."""
_SECONDS = 1e-6
"""In a microsecond."""


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules with their interval."""

    low_j: float
    expected_j: float
    high_j: float
    source: str

    def __add__(self, other: Energy) -> Energy:
        """Shares are the same everywhere, so errors add up."""
        return Energy(
            self.low_j + other.low_j,
            self.expected_j + other.expected_j,
            self.high_j + other.high_j,
            self.source,
        )


@dataclass(frozen=True, slots=True)
class Power:
    """What one device draws."""

    board_w: float
    source: str

    @classmethod
    def of(cls, device: DeviceProfile) -> Power | None:
        """The device's, or None where its profile states none."""
        if device.power is None:
            return None
        source = f"estimate: shares of board power ({device.power.source})"
        return cls(device.power.value, source)

    def joules(
        self, *, compute_us: float, memory_us: float, waiting_us: float, devices: int = 1
    ) -> Energy:
        """Energy of so many devices that spend these microseconds each."""
        times = (compute_us, memory_us, waiting_us)
        shares = zip(COMPUTE_SHARE, MEMORY_SHARE, IDLE_SHARE, strict=True)
        low, expected, high = (
            devices * self.board_w * _SECONDS * sum(x * t for x, t in zip(each, times, strict=True))
            for each in shares
        )
        return Energy(low, expected, high, self.source)
