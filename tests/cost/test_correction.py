"""Corrections: what they learn, what they leave out, how sure they say they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cost.correction import Circumstances, Corrections, WholeRun
from planner.spec.session import SessionSettings

POOLS = {"1": 0.95, "2": 1.2, "2 sleeping": 1.5}
MET = {"1": 0.0, "2": 0.3, "2 sleeping": 0.6}
"""What threads are expected to lose where they meet: about what they do lose, against one."""
FORMATS = {"fp32": 1.0, "int8": 0.93, "int4": 1.06}
SESSIONS = {
    "1": SessionSettings(intra_op_threads=1),
    "2": SessionSettings(intra_op_threads=2),
    "2 sleeping": SessionSettings(intra_op_threads=2, spinning=False),
}


def _at(pool: str, **formats: float) -> Circumstances:
    return Circumstances(SESSIONS[pool], formats, MET[pool])


def _world(pools: Sequence[str], formats: Sequence[str]) -> list[WholeRun]:
    """Whole runs of a world in which effects multiply exactly."""
    return [
        WholeRun(f"{pool}|{name}", _at(pool, **{name: 1.0}), POOLS[pool] * FORMATS[name])
        for pool in pools
        for name in formats
    ]


def test_nothing_known_means_no_correction_and_a_wide_interval() -> None:
    factor = Corrections(()).factor(_at("1", fp32=1.0))
    assert factor.expected == pytest.approx(1.0)
    assert factor.low < 0.92
    assert factor.high > 1.08


def test_a_run_that_was_left_out_is_predicted_from_the_others() -> None:
    corrections = Corrections(_world(list(POOLS), list(FORMATS)))
    for run in _world(list(POOLS), list(FORMATS)):
        factor = corrections.factor(run.circumstances, without={run.name})
        assert factor.expected == pytest.approx(run.ratio, rel=0.06)
        assert factor.low < run.ratio < factor.high


def test_runs_of_kernels_that_were_not_timed_well_say_little_of_their_pool() -> None:
    """As where one convolution's time lay anywhere between 55 and 245 us, and the sum was twice
    what it should be: all native runs of a pool say 0.8, and one of other kernels says 1.2."""
    alone = [WholeRun(f"1|{name}", _at("1", **{name: 1.0}), 1.15) for name in FORMATS]
    bent = [WholeRun(f"{pool}|fp32", _at("2", fp32=1.0), 0.8, doubt=0.3) for pool in "abcd"]
    sure = WholeRun("2|int8", _at("2", int8=1.0), 1.2)
    wanted = _at("2", int4=1.0)
    believing = [WholeRun(run.name, run.circumstances, run.ratio) for run in bent]
    assert Corrections([*alone, *believing, sure]).factor(wanted).expected < 1.0
    assert Corrections([*alone, *bent, sure]).factor(wanted).expected > 1.1


def test_a_run_that_was_left_out_has_no_influence() -> None:
    runs = _world(["1", "2"], ["fp32", "int8"])
    bent = [*runs[:-1], WholeRun(runs[-1].name, runs[-1].circumstances, 10.0)]
    wanted = runs[-1].circumstances
    first, second = (Corrections(r).factor(wanted, without={runs[-1].name}) for r in (runs, bent))
    assert first == second


def test_one_pool_says_little_of_another() -> None:
    """Threads that sleep wake late: that says nothing of one thread."""
    late = [WholeRun("slow", _at("2 sleeping", fp32=1.0), 1.6)]
    assert 1.0 <= Corrections(late).factor(_at("1", fp32=1.0)).expected < 1.6**0.4
    assert Corrections(late).factor(_at("2 sleeping", fp32=1.0)).expected > 1.5


def test_one_format_may_stand_out() -> None:
    """Weights that outgrow the cache in one format say little of the others."""
    slow = [WholeRun("a", _at("1", fp32=1.0), 1.6)]
    usual = [WholeRun(name, _at("1", **{name: 1.0}), 1.1) for name in ("int8", "int4", "int2")]
    corrections = Corrections([*slow, *usual])
    assert corrections.factor(_at("1", fp32=1.0)).expected > 1.45
    assert corrections.factor(_at("1", int8=1.0)).expected == pytest.approx(1.1, rel=0.05)
    assert corrections.factor(_at("1", other=1.0)).expected == pytest.approx(1.1, rel=0.08)


def test_a_mixture_lies_between_its_formats() -> None:
    corrections = Corrections(_world(["1"], ["fp32", "int4"]))
    pure = [corrections.factor(_at("1", **{name: 1.0})).expected for name in ("fp32", "int4")]
    mixed = corrections.factor(_at("1", fp32=0.5, int4=0.5)).expected
    assert mixed == pytest.approx(math.sqrt(pure[0] * pure[1]))


def test_one_disturbed_run_hardly_matters() -> None:
    runs = _world(list(POOLS), list(FORMATS))
    disturbed = [WholeRun(runs[0].name, runs[0].circumstances, 1.6 * runs[0].ratio), *runs[1:]]
    for run in runs[1:]:
        calm, moved = (Corrections(r).factor(run.circumstances) for r in (runs, disturbed))
        assert moved.expected == pytest.approx(calm.expected, rel=0.03)


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=8))
def test_the_factor_lies_between_no_correction_and_the_extremes(ratios: list[float]) -> None:
    """Shrinkage pulls towards 1, never beyond what was seen."""
    runs = [WholeRun(str(i), _at("1", fp32=1.0), ratio) for i, ratio in enumerate(ratios)]
    factor = Corrections(runs).factor(_at("1", fp32=1.0))
    assert min(1.0, *ratios) * 0.999 <= factor.expected <= max(1.0, *ratios) * 1.001


def test_intervals_hold_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        runs = [
            WholeRun(run.name, run.circumstances, run.ratio * math.exp(rng.normal(0, 0.04)))
            for run in _world(list(POOLS), list(FORMATS))
        ]
        left_out = runs[int(rng.integers(len(runs)))]
        factor = Corrections(runs).factor(left_out.circumstances, without={left_out.name})
        inside += factor.low <= left_out.ratio <= factor.high
    assert inside >= 0.93 * 300


@pytest.mark.parametrize("met", [0.0, 0.2, 1.0])
def test_pools_differ_by_what_is_lost_where_threads_meet(met: float) -> None:
    """Where all kernels are short, every pool runs them on the calling thread: what one pool shows
    holds for the others."""
    seen = Circumstances(SESSIONS["1"], {"fp32": 1.0})
    runs = [WholeRun(f"run {n}", seen, 0.9) for n in range(4)]
    found = Corrections(runs).factor(Circumstances(SESSIONS["2 sleeping"], {"fp32": 1.0}, met))
    assert found.expected == pytest.approx(0.9 * (1 + met), rel=0.03)
    assert found.high / found.low < 1.5 * (1 + met) ** 2


def test_a_pool_that_loses_more_than_expected_does_so_in_proportion() -> None:
    """Two runs of few and of many meetings say how late threads are; a plan has others."""

    def at(met: float) -> Circumstances:
        return Circumstances(SESSIONS["2"], {"fp32": 1.0}, met)

    runs = [WholeRun(f"run {met}", at(met), (1 + met) ** 2) for met in (0.05, 0.1, 0.4, 0.5)]
    corrections = Corrections(runs)
    for met in (0.02, 0.25, 0.6):
        assert corrections.factor(at(met)).expected == pytest.approx((1 + met) ** 2, rel=0.08)
