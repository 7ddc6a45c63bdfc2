"""Weights that stream come in parts: few enough for handles, small enough for places."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.steps.away.parts import Run, held_bytes, merged

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=5).map(tuple)
RUNS = st.lists(st.builds(Run, SIZES, st.booleans()), min_size=1, max_size=3)


def _compositions(total: int) -> list[tuple[int, ...]]:
    if total == 0:
        return [()]
    return [
        (first, *rest) for first in range(1, total + 1) for rest in _compositions(total - first)
    ]


@given(RUNS, st.integers(0, 50))
@settings(max_examples=200, deadline=None)
def test_no_way_holds_much_less(runs: list[Run], session: int) -> None:
    found = merged(runs, session)
    for run, counts in zip(runs, found, strict=True):
        assert sum(counts) == len(run.sizes_bytes)
        assert run.is_streamed or len(counts) == 1
    ways = [
        _compositions(len(run.sizes_bytes)) if run.is_streamed else [(len(run.sizes_bytes),)]
        for run in runs
    ]
    best = min(held_bytes(runs, way, session) for way in product(*ways))
    assert held_bytes(runs, found, session) <= 1.05 * best + 2


def test_equal_layers_come_in_about_as_many_parts_as_the_formula_says() -> None:
    runs = [Run((12_000_000,) * 80, True)]
    (counts,) = merged(runs)
    place = (960e6 * 23e6 / 2) ** 0.5
    assert 0.8 < max(counts) * 12e6 / place < 1.25


def test_nothing_streams() -> None:
    assert merged([Run((5, 6), False)]) == ((2,),)
