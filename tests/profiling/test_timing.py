"""Medians, other quantiles and their intervals, against enumeration; interleaving."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.profiling.timing import (
    Sample,
    fast_interval,
    interleave,
    median_interval,
    quantile_interval,
)

_VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60)


def _coverage(count: int, low: int, high: int) -> float:
    """Probability that the median lies between the order statistics of these ranks (from 0):
    that more than `low` and at most `high` of `count` coins fall below it."""
    ways = sum(math.comb(count, below) for below in range(low + 1, high + 1))
    return float(ways / 2**count)


@pytest.mark.parametrize("count", range(7, 120))
def test_the_interval_covers_the_median_as_promised(count: int) -> None:
    found = median_interval([float(rank) for rank in range(count)])
    assert _coverage(count, int(found.low), int(found.high)) >= 0.94


def _quantile_coverage(count: int, share: float, low: int, high: int) -> float:
    """As `_coverage`, of coins that fall below with probability `share`."""
    return sum(
        math.comb(count, below) * share**below * (1 - share) ** (count - below)
        for below in range(low + 1, high + 1)
    )


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("count", [60, 100, 400])
def test_the_interval_covers_any_quantile_as_promised(count: int, share: float) -> None:
    found = quantile_interval([float(rank) for rank in range(count)], share)
    assert _quantile_coverage(count, share, int(found.low), int(found.high)) >= 0.94


def test_the_fast_state_shows_however_busy_the_neighbours_are() -> None:
    """Four fifths of the times are half as long again: the median is off, the fast state is not."""
    rng = np.random.default_rng(0)
    times = 40.0 * np.where(rng.random(200) < 0.8, 1.5, 1.0) * rng.normal(1.0, 0.005, 200)
    assert median_interval(list(times)).median > 55
    assert fast_interval(list(times)).median == pytest.approx(40.0, rel=0.01)


@given(_VALUES)
@settings(max_examples=60, deadline=None)
def test_the_interval_holds_the_median_and_stays_within_the_values(values: list[float]) -> None:
    found = median_interval(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert found.median == pytest.approx(float(np.median(values)), rel=1e-12)  # but for rounding


@given(_VALUES, st.randoms())
@settings(max_examples=20, deadline=None)
def test_order_does_not_matter(values: list[float], shuffler: object) -> None:
    mixed = list(values)
    shuffler.shuffle(mixed)  # type: ignore[attr-defined]
    assert median_interval(mixed) == median_interval(values)


def test_more_values_never_widen_the_ranks() -> None:
    found = [median_interval(list(np.linspace(0, 1, count))) for count in (10, 100, 1000)]
    widths = [each.high - each.low for each in found]
    assert all(wider > narrower for wider, narrower in pairwise(widths))


def test_every_round_visits_every_sample() -> None:
    visits: list[str] = []
    samples = [Sample(name, lambda name=name: visits.append(name)) for name in "ab"]  # type: ignore[misc]
    interleave(samples, 2, warm_up=1)
    assert visits == ["a", "b"] * 3
    assert [len(sample.times_us) for sample in samples] == [2, 2]
    assert all(us > 0 for sample in samples for us in sample.times_us)
