"""Chips count alike in what holds for devices in general."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tables.weights import alike

GROUPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9000)), min_size=1, max_size=8)


@given(GROUPS)
def test_no_chip_counts_more_than_another_that_has_enough(groups: list[tuple[str, int]]) -> None:
    chips, points = zip(*groups, strict=True)
    counts = alike(chips, points)
    assert all(0 < count <= n for count, n in zip(counts, points, strict=True))
    totals = {c: sum(n for x, n in zip(chips, counts, strict=True) if x == c) for c in chips}
    enough = [c for c in totals if sum(n for x, n in groups if x == c) >= 250]
    assert all(totals[c] == pytest.approx(250) for c in enough)
    few = [c for c in totals if c not in enough]
    assert all(totals[c] == sum(n for x, n in groups if x == c) for c in few)
