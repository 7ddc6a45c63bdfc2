"""Ticks of figures: round, few, and around every value."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from planner.report.axis import Axis, tick_text

_NUMBERS = st.floats(1e-9, 1e12) | st.floats(-1e6, 1e6) | st.integers(0, 4096).map(float)


@given(st.lists(_NUMBERS, min_size=1, max_size=9))
@example([1.0, 5e-324])
@example([5e-324])
@example([-1e-307, 1e-310])
def test_every_value_lies_between_the_first_tick_and_the_last(values: list[float]) -> None:
    axis = Axis.of(values, 10.0, 110.0)
    assert 2 <= len(axis.ticks) <= 8
    assert list(axis.ticks) == sorted(set(axis.ticks))
    for value in values:
        assert 10 - 1e-6 <= axis.pixel(value) <= 110 + 1e-6


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([1.0, 4.0], (1, 2, 3, 4)),
        ([1.0, 2.0], (1, 2)),
        ([830.2, 915.0, 1450.0], (800, 1000, 1200, 1400, 1600)),
        ([0.0, 0.0], (0, 1)),
        ([7.0], (6, 8)),
        ([1e-7, 1e-3], (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)),
    ],
)
def test_ticks_are_round(values: list[float], ticks: tuple[float, ...]) -> None:
    assert Axis.of(values, 0.0, 1.0).ticks == pytest.approx(ticks)


@pytest.mark.parametrize(
    "value",
    [0.0, 2.88e-4, 7.2e-5, 1e-12, 0.0123, 73.4321, 1234.5, 12_345.0, 999_999.4, 5e7, 1e30],
)
def test_what_stands_at_a_tick_fits_beside_the_axis(value: float) -> None:
    text = tick_text(value)
    assert len(text) <= 7
    assert float(text) == pytest.approx(value, rel=0.05)
