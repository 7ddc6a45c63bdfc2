"""What races found on every workload shape, as a plan records it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.errors import VerificationError
from planner.profiling.race import speedup, weighted_rounds
from planner.profiling.timing import Interval
from planner.spec.plan import GuardReport, ShapeTiming, Timing
from planner.steps.racing import at_percentile
from planner.steps.shapes import BoundShape
from planner.units import format_rate

PLAIN = "plain"
CONTROL = "plain again"
LEAST_THRESHOLD = 0.02
"""By so much a variant must win at least, however alike two runs of plain ONNX Runtime are."""


@dataclass(frozen=True, slots=True)
class Raced:
    """The contestants' times beside those of plain ONNX Runtime."""

    shapes: Sequence[BoundShape]
    rows: Sequence[Mapping[str, Any]]
    """For each shape, the times of a contestant by its name."""
    percentile: float
    """The promise's."""

    def ran(self, names: Sequence[str]) -> list[str]:
        """Those that could be run on every shape."""
        return [name for name in names if all(name in row for row in self.rows)]

    def ratio(self, name: str) -> Interval:
        """How many times faster than plain ONNX Runtime, over the whole workload."""
        shares = [shape.share for shape in self.shapes]
        firsts, owns = ([row[name][what] for row in self.rows] for what in _TURNS)
        return speedup(weighted_rounds(firsts, shares), weighted_rounds(owns, shares))

    @property
    def threshold(self) -> float:
        """By what a variant must win: more than plain ONNX Runtime differs from itself."""
        control = self.ratio(CONTROL)
        return 1.0 + max(LEAST_THRESHOLD, abs(control.low - 1.0), abs(control.high - 1.0))

    def timing(self, name: str) -> Timing:
        """A contestant's times; the tails are those of the slowest shape."""
        ratio = self.ratio(name)
        found = {
            shape.name: self._on_shape(row[name])
            for shape, row in zip(self.shapes, self.rows, strict=True)
        }
        return Timing(
            name=name,
            p50_us=sum(shape.share * found[shape.name].p50_us for shape in self.shapes),
            p99_us=max(timed.p99_us for timed in found.values()),
            slo_us=max(timed.slo_us for timed in found.values()),
            ratio=ratio.median,
            ratio_low=ratio.low,
            ratio_high=ratio.high,
            runs=sum(row[name]["runs"] for row in self.rows),
            memory_size_bytes=max(row[name]["peak_size_bytes"] for row in self.rows),
            shapes=found,
        )

    def _on_shape(self, timed: Mapping[str, Any]) -> ShapeTiming:
        return ShapeTiming(
            p50_us=at_percentile(timed, 50.0),
            p99_us=at_percentile(timed, 99.0),
            slo_us=at_percentile(timed, self.percentile),
            ratio=speedup(*(timed[what] for what in _TURNS)).median,
        )

    def report(self, shipped: str, timings: Sequence[Timing], reason: str) -> GuardReport:
        """What the plan says of the race."""
        control = self.ratio(CONTROL)
        return GuardReport(
            shipped=shipped,
            threshold=self.threshold,
            control_low=control.low,
            control_high=control.high,
            timings=tuple(timings),
            reason=reason,
        )


_TURNS = ("first_us", "medians_us")
"""Medians of plain ONNX Runtime's turns, and of the contestant's own in the same rounds."""


def refuse_low_rate(
    rate_per_s: float | None, shipped: Timing, timings: Mapping[str, Timing]
) -> None:
    """Inferences one after the other: what the solver counts as well (C9).

    Raises:
        VerificationError: what ships sustains less than was promised.
    """
    if rate_per_s is None or 1e6 / shipped.p50_us >= rate_per_s:
        return
    best = min(timings.values(), key=lambda timing: timing.p50_us)
    raise VerificationError(
        f"measured {format_rate(1e6 / shipped.p50_us)}, promised {format_rate(rate_per_s)}",
        where=shipped.name,
        fix=f"the best variant measured is {best.name}: {format_rate(1e6 / best.p50_us)}",
    )
