"""Who ships: against the rule said in other words, over all small contests."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.spec.plan import ShapeTiming, Timing
from planner.steps.accuracy import Measured
from planner.steps.contest import Entrant, least_wrong
from planner.steps.winner import Kind, pick

_KINDS: Mapping[str, Kind] = {"plan": "plan", "int8": "uniform", "native": "uniform"}
_THRESHOLD = 1.02


def _timing(name: str, *ratios: float) -> Timing:
    shapes = {
        str(number): ShapeTiming(p50_us=100.0 / ratio, p99_us=200.0, slo_us=200.0, ratio=ratio)
        for number, ratio in enumerate(ratios)
    }
    mean = len(ratios) / sum(1 / ratio for ratio in ratios)
    return Timing(
        name=name, p50_us=100.0 / mean, p99_us=200.0, slo_us=200.0, ratio=mean, ratio_low=mean,
        ratio_high=mean, runs=1, memory_size_bytes=1, shapes=shapes,
    )  # fmt: skip


_RATIOS = st.lists(
    st.sampled_from([0.5, 0.97, 0.99, 1.0, 1.01, 1.03, 1.5, 3.0]), min_size=2, max_size=2
)


@given(st.dictionaries(st.sampled_from(sorted(_KINDS)), _RATIOS), st.booleans())
def test_no_shape_becomes_slower_and_nothing_much_better_is_passed_over(
    ratios: dict[str, list[float]], wants_memory: bool
) -> None:
    timings = {name: _timing(name, *found) for name, found in ratios.items()}
    winner, reason = pick(_KINDS, timings, _THRESHOLD, wants_memory=wants_memory)
    assert reason
    able = [name for name, found in ratios.items() if min(found) >= 1 / _THRESHOLD]
    worth = [name for name in able if timings[name].ratio >= _THRESHOLD]
    if winner is None:
        assert not worth
        return
    assert winner in able
    best = max(timings[name].ratio for name in able)
    if winner != "plan":
        assert timings[winner].ratio == best
    elif not wants_memory:
        assert best / timings[winner].ratio <= _THRESHOLD


def test_a_shape_that_would_become_slower_is_named() -> None:
    timings = {"int8": _timing("int8", 0.5, 3.0, 3.0, 3.0)}
    assert timings["int8"].ratio > _THRESHOLD
    winner, reason = pick(_KINDS, timings, _THRESHOLD)
    assert winner is None
    assert "best: int8, 0.500x on '0'" in reason


@pytest.mark.parametrize(("ratio", "shipped"), [(1.01, None), (1.03, "native")])
def test_a_win_must_exceed_what_plain_differs_from_itself(
    ratio: float, shipped: str | None
) -> None:
    assert pick(_KINDS, {"native": _timing("native", ratio)}, _THRESHOLD)[0] == shipped


def test_nobody_who_ran_leaves_plain() -> None:
    assert pick(_KINDS, {}, _THRESHOLD) == (None, "no other variant could be run")


def test_a_variant_must_be_worth_more_than_the_engines_own_call() -> None:
    timings = {"int8": _timing("int8", 1.15, 1.15)}
    assert pick(_KINDS, timings, _THRESHOLD)[0] == "int8"
    winner, reason = pick(_KINDS, timings, _THRESHOLD, ground=1.14)
    assert winner is None
    assert "1.140x in an engine" in reason
    assert pick(_KINDS, timings, _THRESHOLD, ground=1.1)[0] == "int8"


def test_a_win_over_what_ships_otherwise_says_so_where_it_is_none_over_plain() -> None:
    timings = {"int8": _timing("int8", 1.01, 1.01)}
    assert pick(_KINDS, timings, _THRESHOLD, ground=0.9) == (
        "int8", "measured 1.010x plain ONNX Runtime, 1.122x the plain graph in an engine",
    )  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(_KINDS)), _RATIOS, min_size=1))
def test_what_is_pinned_is_kept_however_fast_the_plain_graph_is(
    ratios: dict[str, list[float]],
) -> None:
    timings = {name: _timing(name, *found) for name, found in ratios.items()}
    winner, reason = pick(_KINDS, timings, _THRESHOLD, is_pinned=True)
    assert winner is not None
    assert "pinned" in reason
    best = max(timing.ratio for timing in timings.values())
    assert best / timings[winner].ratio <= (_THRESHOLD if winner == "plan" else 1.0)


def _entrant(name: str, error: float) -> Entrant:
    return cast(Entrant, SimpleNamespace(name=name, measured=Measured(error, None)))


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1e-4, 1e-3]), st.integers(1, 4)), min_size=1),
    st.sampled_from([None, 2.0, 3.0]),
)
def test_where_error_is_what_counts_nothing_faster_with_more_of_it_may_ship(
    found: list[tuple[float, int]], limit_us: float | None
) -> None:
    entrants = [_entrant(str(number), error) for number, (error, _) in enumerate(found)]
    timings = {
        str(number): _timing(str(number), 1.0).model_copy(update={"slo_us": float(slo_us)})
        for number, (_, slo_us) in enumerate(found)
    }
    left = least_wrong(entrants, timings, limit_us)
    able = [one for one in found if limit_us is None or one[1] <= limit_us] or found
    least = min(error for error, _ in able)
    names = {str(n) for n, one in enumerate(found) if one in able and one[0] == least}
    assert {entrant.name for entrant in left} == names


def test_who_was_not_timed_cannot_be_the_least_wrong() -> None:
    entrants = [_entrant("int8", 1e-4), _entrant("native", 0.0)]
    assert least_wrong(entrants, {"int8": _timing("int8", 2.0)}, None) == entrants[:1]
    assert least_wrong(entrants, {}, None) == []


def test_the_least_wrong_must_be_as_fast_as_was_promised() -> None:
    entrants = [_entrant("int8", 1e-4), _entrant("native", 0.0)]
    timings = {"int8": _timing("int8", 2.0), "native": _timing("native", 1.0)}  # 50 and 100 us
    assert least_wrong(entrants, timings, None, 15_000.0) == entrants[:1]
    assert least_wrong(entrants, timings, None, 9_000.0) == entrants[1:]
    assert least_wrong(entrants, timings, None, 30_000.0) == entrants[1:]
