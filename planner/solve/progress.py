"""What a solve says while it runs: best value, proved bound, gap and the strategy at work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a solve, in the units of the objective at hand."""

    seconds: float
    objective: str
    """Which objective is being minimised, e.g. `latency`."""
    incumbent: float | None
    bound: float
    strategy: str
    """Who found it: `seed`, `relaxation`, or the solver's name."""

    @property
    def gap(self) -> float | None:
        """(incumbent - bound) / incumbent; None without an incumbent."""
        return relative_gap(self.incumbent, self.bound)


Reporter = Callable[[Progress], None]
"""Receives progress; must return quickly and not raise."""


def relative_gap(value: float | None, bound: float) -> float | None:
    """(value - bound) / value, at least 0; None without a value."""
    if value is None:
        return None
    return max(0.0, (value - bound) / value) if value > 0 else 0.0
