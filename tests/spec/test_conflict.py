"""What is suggested in place of a limit that cannot be kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.spec.conflict import ConflictingLimit, Unit, amount, sufficient
from planner.units import parse_duration_us, parse_rate_per_s, parse_size_bytes

_READ: dict[Unit, Callable[[str], float]] = {
    "us": parse_duration_us,
    "bytes": parse_size_bytes,
    "1/s": parse_rate_per_s,
    "NMSE": float,
}


@given(st.sampled_from(sorted(_READ)), st.floats(1e-3, 1e12))
def test_what_is_suggested_suffices_and_gives_away_at_most_two_percent(
    unit: Unit, value: float
) -> None:
    if unit == "bytes":
        value = float(int(value) + 1)
    asked = _READ[unit](sufficient(value, unit))
    if unit == "1/s":
        assert value * 0.98 <= asked <= value
    else:
        assert value <= asked <= value * 1.02


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (77.74, "us", "77.8 us"),
        (77.7, "us", "77.7 us"),
        (69.21 * 2**20, "bytes", "69.3 MiB"),
        (72_640.7, "1/s", "72640/s"),
        (2.52e-4, "NMSE", "0.000252"),
    ],
)
def test_no_more_is_given_away_than_the_digits_shown(value: float, unit: Unit, text: str) -> None:
    limit = ConflictingLimit(key="k", value=1.0, nearest=value, unit=unit)
    assert limit.nearest_text == f"k {text}"
    assert sufficient(value, unit) == text


def test_amounts_are_rounded_to_the_nearest() -> None:
    assert amount(77.74, "us") == "77.7 us"
    assert amount(72_640.7, "1/s") == "72641/s"


@pytest.mark.parametrize(("size_bytes", "text"), [(0.0, "0 B"), (1e-3, "0 B"), (0.3, "1 B")])
def test_sizes_that_no_rounding_reaches_are_told_as_they_read(size_bytes: float, text: str) -> None:
    assert sufficient(size_bytes, "bytes") == text
