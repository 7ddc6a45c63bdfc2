"""Units in, units out: durations in microseconds, sizes in bytes, rates per second, shares.

Every parser refuses a bare number: a promise without a unit is a misunderstanding in waiting.
"""

from __future__ import annotations

import math
import re

from planner.errors import UsageError

DURATION_US = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6, "min": 60e6, "h": 3600e6}
SIZE_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
PRICE_PER_H = {"USD/h": 1.0, "/h": 1.0}
RATE_PER_S = {"/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600}
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Zµ/%]*)\s*\Z")


def _quantity(text: str, units: dict[str, float] | dict[str, int], what: str) -> float:
    match = _QUANTITY.match(text.replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}"))
    example = f"10{next(iter(units))}"
    if match is None:
        raise UsageError(f"{text!r} is not a {what}", fix=f"write a number and a unit: {example}")
    number, unit = match.groups()
    if not unit:
        meant = ", ".join(f"{number}{each}" for each in units)
        raise UsageError(f"the {what} {text!r} has no unit", fix=f"one of {meant}")
    if unit not in units:
        raise UsageError(
            f"unknown unit {unit!r} in the {what} {text!r}", fix=f"one of {', '.join(units)}"
        )
    value = float(number) * units[unit]
    if not math.isfinite(value):
        raise UsageError(f"the {what} {text!r} is no finite number", fix=f"for example {example}")
    return value


def parse_duration_us(text: str) -> float:
    """`20ms` -> 20000.0 microseconds.

    Raises:
        UsageError: no number, no unit or an unknown unit.
    """
    return _quantity(text, DURATION_US, "duration")


def parse_size_bytes(text: str) -> int:
    """`40GiB` -> bytes; decimal (`MB`) and binary (`MiB`) prefixes are told apart."""
    return int(_quantity(text, SIZE_BYTES, "size"))


def parse_rate_per_s(text: str) -> float:
    """`100/s` -> 100.0 per second."""
    return _quantity(text, RATE_PER_S, "rate")


def parse_price_per_h(text: str) -> float:
    """`2.10USD/h` -> 2.1 dollars an hour; `/h` leaves the currency to the reader."""
    return _quantity(text, PRICE_PER_H, "price")


def parse_share(text: str) -> float:
    """`1%` -> 0.01, `0.5pp` -> 0.005 (percentage points of a metric between 0 and 1)."""
    return _quantity(text, {"%": 1, "pp": 1}, "share") / 100


def format_duration(latency_us: float) -> str:
    """Microseconds as a person reads them: three significant digits."""
    for unit, next_us in _READ_AS:
        value = latency_us / DURATION_US[unit]
        if abs(latency_us) < next_us:
            break
    return f"{_plain(value)} {unit}"


_READ_AS = (("us", 1e3), ("ms", 1e6), ("s", 600e6), ("min", 7200e6), ("h", math.inf))
"""Unit, and from where on the next one is read more easily."""


def _plain(value: float) -> str:
    """Three significant digits, without an exponent for what rounds up to a thousand."""
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e+" in text else text


def format_rate(rate_per_s: float) -> str:
    """`72640/s`, `2.5/s`: four significant digits below a thousand, whole numbers above."""
    return f"{rate_per_s:.0f}/s" if rate_per_s >= 1e3 else f"{rate_per_s:.4g}/s"


def whole_mib(size_bytes: int) -> str:
    """The next whole `82MiB` that holds so much, as it may be asked for."""
    return f"{-(-size_bytes // 2**20)}MiB"


def format_size(size_bytes: float) -> str:
    """Bytes as a person reads them, binary prefixes."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{_plain(size_bytes)} {unit}"
        size_bytes /= 1024
    return f"{_plain(size_bytes)} TiB"
