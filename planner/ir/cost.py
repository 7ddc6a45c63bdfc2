"""What something costs, how sure we are, and where the number comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Where a number comes from, best first."""

    MEASURED = "measured"
    """Timed on this target."""
    INTERPOLATED = "interpolated"
    """Between measurements on this target."""
    MODELLED = "modelled"
    """From the device profile."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A latency with its 95 % interval, in microseconds."""

    low_us: float
    expected_us: float
    high_us: float
    source: Source

    @classmethod
    def exactly(cls, latency_us: float) -> Cost:
        """A measured latency whose spread does not matter."""
        return cls(latency_us, latency_us, latency_us, Source.MEASURED)

    def __add__(self, other: Cost) -> Cost:
        """Intervals add up (fully correlated: the safe side); the weaker source is kept."""
        order = (Source.MEASURED, Source.INTERPOLATED, Source.MODELLED)
        return Cost(
            self.low_us + other.low_us,
            self.expected_us + other.expected_us,
            self.high_us + other.high_us,
            max(self.source, other.source, key=order.index),
        )

    def scaled(self, factor: float) -> Cost:
        """The same cost `factor` times."""
        return Cost(
            self.low_us * factor, self.expected_us * factor, self.high_us * factor, self.source
        )


FREE = Cost(0.0, 0.0, 0.0, Source.MEASURED)
