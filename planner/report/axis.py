"""Axes of figures: round numbers at the ticks, and every value between the first and the last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MOST_TICKS = 6
_STEPS = (1.0, 2.0, 5.0, 10.0)
"""Between ticks, times a power of ten."""
_DECADES = 2.0
"""Positive values that span more are drawn on a logarithmic axis."""
_LEAST = 1e-300
"""What is smaller is drawn as 0: its power of ten is no normal float."""


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to pixels."""

    ticks: tuple[float, ...]
    start: float
    """Pixel of the first tick."""
    end: float
    """Of the last one."""
    is_log: bool = False

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> Axis:
        """The axis on which these values have room."""
        drawn = [value if abs(value) >= _LEAST else 0.0 for value in values]
        low, high = min(drawn), max(drawn)
        if low > 0 and high / low > 10**_DECADES:
            return cls(_powers(low, high), start, end, is_log=True)
        whole = all(value == int(value) for value in drawn)
        return cls(_even(low, high, 1.0 if whole else 0.0), start, end)

    def pixel(self, value: float) -> float:
        """Where a value is drawn."""
        first, last = self._at(self.ticks[0]), self._at(self.ticks[-1])
        return self.start + (self._at(value) - first) / (last - first) * (self.end - self.start)

    def _at(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def _powers(low: float, high: float) -> tuple[float, ...]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = math.ceil((last - first) / _MOST_TICKS)
    return tuple(10.0**power for power in range(first, last + stride, stride))


def _even(low: float, high: float, least: float) -> tuple[float, ...]:
    """Multiples of the smallest round step that needs few of them.

    Args:
        least: the smallest step allowed: 1 where all values are counts.
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / _MOST_TICKS))
    steps = (each * power for each in (*_STEPS, *(10 * step for step in _STEPS)))
    step = max(next(step for step in steps if span / step <= _MOST_TICKS), least)
    first, last = math.floor(low / step), math.ceil(high / step)
    return tuple(number * step for number in range(first, max(last, first + 1) + 1))


def tick_text(value: float) -> str:
    """At most seven characters, which is what fits beside the axis."""
    if 1e4 <= abs(value) < 1e6:
        return f"{value:.0f}"
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        return f"{value:.4g}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}"
