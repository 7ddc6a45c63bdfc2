"""Units: parsed strictly, shown as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from planner import units
from planner.errors import UsageError


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.parse_duration_us, "20ms", 20_000.0),
        (units.parse_duration_us, "1.5 s", 1.5e6),
        (units.parse_duration_us, "7µs", 7.0),
        (units.parse_duration_us, "7\N{GREEK SMALL LETTER MU}s", 7.0),
        (units.parse_size_bytes, "40GiB", 40 * 2**30),
        (units.parse_size_bytes, "1MB", 10**6),
        (units.parse_rate_per_s, "120/min", 2.0),
        (units.parse_share, "95%", 0.95),
        (units.parse_share, "0.5pp", 0.005),
    ],
)
def test_quantities(parse: Any, text: str, value: Any) -> None:
    assert parse(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["20", "ms", "20 parsecs", "-1ms", "1e999x", "", "1ms 2ms"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        units.parse_duration_us(text)


@pytest.mark.parametrize(
    ("value_us", "text"),
    [
        (0.5, "0.5 us"),
        (1234.0, "1.23 ms"),
        (2.5e6, "2.5 s"),
        (999.7, "1000 us"),
        (463e6, "463 s"),
        (1070e6, "17.8 min"),
        (3 * 3600e6, "3 h"),
        (2e9 * 3600, "2000 h"),
    ],
)
def test_durations_as_people_read_them(value_us: float, text: str) -> None:
    assert units.format_duration(value_us) == text


@pytest.mark.parametrize(("size", "text"), [(5, "5 B"), (2048, "2 KiB"), (3 * 2**40, "3 TiB")])
def test_sizes_as_people_read_them(size: int, text: str) -> None:
    assert units.format_size(size) == text
