"""Rounds of device times, the interval of their median, and whether the device kept its pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from planner.errors import InfoptError
from planner.profiling.timing import Interval, median_interval

_ROUNDS = 9
_FEWEST = 7
"""The fewest for which order statistics give a 95 % interval of the median (2 / 2**7 < 5 %)."""
_BUDGET_S = 1.5
_STEADY = 1.05
"""A reference that varies by less between the first and the last probe changes no interval."""


@dataclass(frozen=True, slots=True)
class Found:
    """One measured quantity, in its unit."""

    name: str
    value: Interval
    unit: str


@dataclass
class Sampler:
    """Times probes, each between two runs of a reference, which tells the device's pace."""

    reference: Callable[[], float]
    """Device time of something that always takes the same time, microseconds."""
    keep_busy: Callable[[], None]
    """Queues work behind which what is timed can wait until all of it is queued."""
    pace_us: list[float] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Probe -> why it could not run."""

    def time_us(self, once: Callable[[], float]) -> Interval:
        """The median of what `once` returns, with its 95 % interval."""
        once()
        samples: list[float] = []
        until = time.perf_counter() + _BUDGET_S
        while len(samples) < _FEWEST or (len(samples) < _ROUNDS and time.perf_counter() < until):
            samples.append(once())
        self.pace_us.append(self.reference())
        return median_interval(samples)

    def rate(self, name: str, work: float, unit: str, once: Callable[[], float]) -> Iterator[Found]:
        """Work (bytes, operations) a second; nothing where the probe cannot run here."""
        try:
            us = self.time_us(once)
        except InfoptError as error:
            self.left_out[name] = error.what
            return
        ends = Interval(work / us.median * 1e6, work / us.high * 1e6, work / us.low * 1e6)
        yield Found(name, ends, unit)

    def duration(self, name: str, once: Callable[[], float]) -> Iterator[Found]:
        """Microseconds; nothing where the probe cannot run here."""
        try:
            yield Found(name, self.time_us(once), "us")
        except InfoptError as error:
            self.left_out[name] = error.what

    @property
    def unsteadiness(self) -> float:
        """By which factor the reference varied; 1 where the device kept its pace."""
        if not self.pace_us:
            return 1.0
        ordered = sorted(self.pace_us)
        cut = len(ordered) // 10
        kept = ordered[cut : len(ordered) - cut]
        factor = kept[-1] / max(kept[0], 1e-9)
        return factor if factor > _STEADY else 1.0


def widened(value: Interval, factor: float) -> Interval:
    """The same quantity on a device that throttled or was shared."""
    return Interval(value.median, value.low / factor, value.high * factor)
