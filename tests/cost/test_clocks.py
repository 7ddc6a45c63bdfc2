"""Starts of a source that nobody knows lie where those of others lie, and intervals say so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import resources
from planner.cost.clocks import publisher_of, start_range
from planner.cost.curves import ANY, Library
from planner.cost.fitted import Fitted
from planner.cost.gemm import PRIOR
from planner.spec.fits import Curve, FitFile
from planner.spec.profile import DeviceProfile, read_profile

_TYPICAL = {name: value for name, (value, _) in PRIOR.items()}


def curve(publisher: str, start_us: float) -> Curve:
    return Curve(
        source=f"fitted on measurements published by {publisher}",
        points=100,
        median_error=0.1,
        p90_error=0.2,
        parameters={**_TYPICAL, "start": start_us},
        bands=((1e12, 0.9, 1.1),),
    )


def device(name: str) -> DeviceProfile:
    return read_profile(next(path for path in resources.profiles() if path.stem == name))


def library(*starts_us: float) -> Library:
    """An A40 whose products several sources measured."""
    curves = {f"product/fp16@s{n}/x": curve(f"s{n}/x", us) for n, us in enumerate(starts_us)}
    own = FitFile(device="a40-48gb", architecture="sm_86", units=84, curves=curves)
    general = FitFile(device=ANY, curves={"product/fp16": curve("s0/x", 3.0)})
    return Library([own, general])


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 50), min_size=3, max_size=8))
def test_the_range_holds_every_source_about_as_often_as_it_says(starts: list[float]) -> None:
    found = start_range(curve(f"s{n}/x", us) for n, us in enumerate(starts))
    assert found is not None
    low, high = found
    assert low <= float(np.exp(np.mean(np.log(starts)))) * (1 + 1e-9)
    assert high >= float(np.exp(np.mean(np.log(starts)))) * (1 - 1e-9)
    if len(starts) == 3:
        assert low <= min(starts) * (1 + 1e-9) or len(set(starts)) == 1


def test_a_source_counts_once_however_many_curves_it_has() -> None:
    few = [curve("a/x", 2.0), curve("b/x", 4.0), curve("c/x", 30.0)]
    once, often = start_range(few), start_range([*few, *few[2:] * 10])
    assert once is not None
    assert once == pytest.approx(often)
    assert start_range(few[:2]) is None
    assert publisher_of(few[0]) == "a/x"


def test_intervals_of_an_unknown_source_hold_any_start() -> None:
    known, key = library(2.0, 4.0, 30.0), "product/fp16"
    target = device("a100-sxm-80gb")
    assert known.find(target, key).starts_us is None
    assert known.find(target, key, "s1/x").starts_us is None
    found = known.find(target, key, "nobody/knows")
    assert found.starts_us is not None
    latencies = np.array([found.start_us + 1.0, found.start_us + 1e5])
    short, long = found.edges(latencies, np.zeros((2, 3)))
    assert short[1] * latencies[0] >= found.starts_us[1]
    assert short[0] * latencies[0] <= found.starts_us[0] + 1.0
    assert abs(long[1] - 1.1) < 1e-3


def test_wider_intervals_keep_what_they_held() -> None:
    fit = Fitted(_TYPICAL, None, ((1e12, 0.5, 2.0),), False, "", starts_us=(2.9, 3.1))
    assert np.allclose(fit.edges(np.array([100.0]), np.zeros((1, 3))), [[0.5, 2.0]])
