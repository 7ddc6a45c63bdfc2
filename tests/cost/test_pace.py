"""Latencies in cycles, and what every price keeps to: more work takes longer, intervals hold it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import resources
from planner.cost.family import FAMILIES, PLAIN, family_of
from planner.cost.machine import Machine
from planner.cost.pace import REFERENCE_HZ, slowness_of, started_us
from planner.cost.predictor import Predictor
from planner.cost.work import Attention, Flow, Product, Traffic, Work
from planner.spec.profile import DeviceProfile, read_profile

DEVICES = ("a100-sxm-80gb", "h100-sxm-80gb", "a40-48gb", "t4-16gb", "l4-24gb")
SIZES = st.integers(1, 8192)


@cache
def device(name: str) -> DeviceProfile:
    return read_profile(resources.folder("profiles") / f"{name}.yaml")


@cache
def predictor(name: str) -> Predictor:
    return Predictor(device(name))


def typical_us(work: Work, machine: Machine) -> float:
    """By typical parameters."""
    name, _, format = family_of(work).partition("/")
    family = FAMILIES[name]
    at = {key: value for key, (value, _) in family.prior_of(format).items()}
    return float(family.latency_us(family.columns([work], format), machine, at)[0])


WORKS = st.one_of(
    st.builds(Product, SIZES, SIZES, SIZES, format=st.sampled_from(sorted(PLAIN - {"tf32"}))),
    st.builds(Traffic, SIZES, SIZES, st.just(Flow.NORMALISATION), rows=SIZES),
    st.builds(Traffic, SIZES, SIZES, st.just(Flow.ELEMENTWISE)),
)


@settings(deadline=None)
@given(WORKS, st.floats(0.5, 2.0), st.floats(1.0, 2.0))
def test_a_slower_clock_is_never_faster(work: Work, slowness: float, factor: float) -> None:
    machine = Machine.of(device("a100-sxm-80gb"))
    fast = typical_us(work, replace(machine, slowness=slowness))
    slow = typical_us(work, replace(machine, slowness=slowness * factor))
    assert fast <= slow * (1 + 1e-12)


@pytest.mark.parametrize(
    "work",
    [
        Product(8, 4096, 4096, format="int8"),
        Product(8, 4096, 4096, format="int4_wo"),
        Product(8, 4096, 4096, format="2:4"),
        Attention(4, 32, 8, 128, 1, 2048, True, "fp16"),
        Attention(4, 32, 8, 128, 512, 512, True, "fp16"),
    ],
)
def test_calls_of_several_kernels_take_what_launches_take(work: Work) -> None:
    machine = Machine.of(device("a100-sxm-80gb"))
    other = replace(machine, slowness=0.7)
    assert typical_us(work, machine) == typical_us(work, other)


def test_only_what_a_launch_takes_of_a_start_is_the_devices() -> None:
    assert started_us(1.0, 0.5) == 0.5
    assert 30.0 - started_us(30.0, 0.5) == pytest.approx(2.0 - started_us(2.0, 0.5))
    assert started_us(30.0, 1.0) == 30.0


def test_the_reference_is_an_a100_and_what_is_no_gpu_keeps_its_time() -> None:
    assert slowness_of(device("a100-sxm-80gb")) == 1.0
    assert slowness_of(device("h100-sxm-80gb")) == pytest.approx(REFERENCE_HZ / 1.98e9)
    assert slowness_of(device("amd-epyc-2-cores")) == 1.0


@settings(deadline=None, max_examples=60)
@given(WORKS, st.sampled_from(DEVICES))
def test_prices_are_positive_and_inside_their_intervals(work: Work, name: str) -> None:
    asked = predictor(name)
    if isinstance(work, Product) and asked.why_not(work.format):
        return
    cost = asked.kernel(work)
    assert 0 < cost.low_us <= cost.expected_us <= cost.high_us < np.inf


@settings(deadline=None)
@given(WORKS, st.sampled_from(DEVICES))
def test_twice_the_work_in_every_size_never_takes_less(work: Work, name: str) -> None:
    machine = Machine.of(device(name))
    if isinstance(work, Product):
        if machine.rate(work.format) == 0:
            return
        twice: Work = replace(work, m=2 * work.m, n=2 * work.n, k=2 * work.k)
    else:
        assert isinstance(work, Traffic)
        twice = Traffic(
            2 * work.read_size_bytes, 2 * work.write_size_bytes, work.flow, rows=2 * work.rows
        )
    assert typical_us(twice, machine) >= typical_us(work, machine) * (1 - 1e-9)
