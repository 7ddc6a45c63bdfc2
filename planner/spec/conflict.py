"""Why a request cannot be met: the limits that conflict, where each was written, the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from planner.spec.base import Document
from planner.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration_us,
    parse_rate_per_s,
    parse_size_bytes,
)

Unit = Literal["us", "bytes", "NMSE", "drop", "1/s"]

_STEP, _STEPS = 1e-5, 100_000
"""Relative; three significant digits are at most 1000 of these apart, single bytes all of them."""
MEMORY_KEY = "target.memory"
"""Where a request limits memory."""


class ConflictingLimit(Document):
    """One of the user's own limits that cannot hold beside the others."""

    key: str
    """As in the constraints file: `slo.latency.p99`."""
    value: float
    """What was asked for."""
    nearest: float | None
    """The nearest value that a plan was found for, with every other limit kept, those of other
    conflicts apart; a latency is that of its upper end. None where there is none, or where only
    measuring built plans could tell (a metric's drop)."""
    unit: Unit
    proved: float | None = None
    """Nothing short of this is feasible, with every other limit kept, even where latencies keep to
    the lower ends of their intervals: proved. None: not known."""
    is_open: bool = False
    """Neither was a feasible value found nor is it proved that there is none."""
    conflict: int = 1
    """Number of the conflict it belongs to: to solve one conflict, one of its limits must give
    way."""
    origin: str | None = None
    """Where it was written: `c.yaml:4`, `--slo`, `INFOPT_SLO`, `default`."""
    shapes: tuple[str, ...] = ()
    """Workload shapes that cannot keep it even where they are the only ones; none where there is
    one shape only."""

    @property
    def text(self) -> str:
        """`slo.latency.p99 20 ms for 'long'`."""
        shapes = f" for {', '.join(map(repr, self.shapes))}" if self.shapes else ""
        return f"{self.key} {amount(self.value, self.unit)}{shapes}"

    @property
    def nearest_text(self) -> str | None:
        """`slo.latency.p99 31 ms`."""
        return None if self.nearest is None else f"{self.key} {sufficient(self.nearest, self.unit)}"


class ConflictReport(Document):
    """Whether the limits of a request can hold together."""

    model: str
    feasible: bool
    """Before anything of a plan was timed as a whole: the guard's measurement has the last word."""
    limits: tuple[ConflictingLimit, ...]
    """Sets that cannot hold together, by conflict: without any one limit of a set its others can,
    unless the reason says that perhaps fewer suffice. Empty where the request is feasible, or where
    no plan exists whatever the limits."""
    fastest_us: float | None
    """Least latency at the SLO's percentile with every other limit kept."""
    latency_percentile: float
    reason: str

    @property
    def lacks_memory(self) -> bool:
        """Whether the limit on memory is among those that cannot hold."""
        return any(limit.key == MEMORY_KEY for limit in self.limits)

    def written_at(self, origins: Mapping[str, str]) -> ConflictReport:
        """The same, with where each limit was written."""
        limits = tuple(
            limit.model_copy(update={"origin": origins.get(limit.key)}) for limit in self.limits
        )
        return self.model_copy(update={"limits": limits})


def amount(value: float, unit: Unit) -> str:
    """A number as a person reads it."""
    if unit == "us":
        return format_duration(value)
    if unit == "bytes":
        return format_size(value)
    if unit == "1/s":
        return format_rate(value)
    return f"{value:.3g}"


def sufficient(value: float, unit: Unit) -> str:
    """The same, rounded to the side on which a limit still suffices: what is asked for as it is
    read here must not fall short by a rounding."""
    side = -1 if unit == "1/s" else 1
    tried = (amount(value * (1 + side * step * _STEP), unit) for step in range(_STEPS))
    suffices = (text for text in tried if side * (_read(text, unit) - value) >= 0)
    return next(suffices, amount(value, unit))


def _read(text: str, unit: Unit) -> float:
    """The number that an amount says."""
    if unit == "us":
        return parse_duration_us(text)
    if unit == "bytes":
        return parse_size_bytes(text)
    return parse_rate_per_s(text) if unit == "1/s" else float(text)
