"""What is timed in a batch: a kernel's request, and its micro-model with what its runs took."""

from __future__ import annotations

from dataclasses import dataclass

from planner.profiling.timing import Interval, Sample, calm_interval, fast_interval, is_torn

_TIGHT_RELATIVE = 0.03
"""A kernel is done when its 95 % interval is this tight, relative to its median,"""
_TIGHT_US = 0.05
"""or this tight in absolute terms."""
_FLOOR_US = 0.01
"""No kernel takes less; the slope of very small ones may come out below zero."""


@dataclass(frozen=True, slots=True)
class Request:
    """One kernel to time: its index in the analysis and where the result goes."""

    index: int
    key: str
    footprint: int
    """Class of the footprint that its copies must have (`micro.footprint_class`)."""


@dataclass(slots=True)
class Item:
    """A kernel's micro-model."""

    request: Request
    sample: Sample
    copies: int
    first_us: float
    """A run of the whole micro-model, roughly."""

    @property
    def round_us(self) -> float:
        """How long it takes of a round."""
        return self.first_us * (1 + self.sample.warm_up)

    def latency(self, call_us: float, reader_us: float) -> Interval:
        """Microseconds a copy, without the call's own cost and the reader of each copy's output."""
        whole = calm_interval(self.sample.times_us)
        ends = (whole.median, whole.low, whole.high)
        shares = ((us - call_us) / self.copies - reader_us for us in ends)
        return Interval(*(max(share, _FLOOR_US) for share in shares))

    def counted(self, other: Sample) -> float:
        """What counts of the times of another sample, beside this one's: of the rounds in which
        both ran, at the same rank."""
        together = other.times_us[: len(self.sample.times_us)]
        found = fast_interval(together)
        return found.low if is_torn(self.sample.times_us) else found.median

    def is_tight(self) -> bool:
        """Whether more rounds would tell little more."""
        latency = self.latency(0.0, 0.0)
        return latency.high - latency.low <= max(_TIGHT_RELATIVE * latency.median, _TIGHT_US)
