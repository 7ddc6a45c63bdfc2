"""Fused layers of experts: how many are asked, and what they cost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from planner import resources
from planner.cost.predictor import Predictor
from planner.cost.work import Experts, Product
from planner.ir.cost import Source
from planner.spec.profile import read_profile


@pytest.fixture(scope="module")
def h100() -> Predictor:
    path = next(path for path in resources.profiles() if path.stem == "h100-sxm-80gb")
    return Predictor(read_profile(path))


def mixtral(tokens: int, format: str = "bf16") -> Experts:
    return Experts(tokens, 2 * tokens, 4096, 14336, 8, format=format)


@pytest.mark.parametrize("calls", [1, 3, 16, 200])
def test_as_many_experts_are_asked_as_tokens_choose_at_random(calls: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [len(set(rng.integers(0, 64, calls))) for _ in range(2000)]
    assert Experts(calls, calls, 16, 16, 64).asked == pytest.approx(np.mean(drawn), abs=0.6)


def test_operations_are_those_of_every_call() -> None:
    work = Experts(32, 64, 128, 256, 8)
    assert work.flops == 2 * 64 * 128 * 256 * 3
    up, down = work.products
    assert up.flops + down.flops >= work.flops
    assert work.weight_size_bytes == 8 * 3 * 128 * 256 * 2


def test_a_layer_costs_its_products_and_what_is_around_them(h100: Predictor) -> None:
    for tokens in (1, 64, 4096):
        work = mixtral(tokens)
        both = sum(cost.expected_us for cost in h100.kernels(list(work.products)))
        assert 0.6 * both < h100.kernel(work).expected_us < 1.6 * both + 40


def test_more_tokens_take_no_less(h100: Predictor) -> None:
    us = [cost.expected_us for cost in h100.kernels([mixtral(2**p) for p in range(14)])]
    assert all(later > 0.9 * earlier for earlier, later in pairwise(us))
    assert us[-1] > 8 * us[-5] * 0.5


def test_nobody_measured_one_and_the_interval_says_so(h100: Predictor) -> None:
    cost, product = h100.kernels([mixtral(64), Product(64, 4096, 4096, format="bf16")])
    assert cost.source is Source.MODELLED
    assert cost.high_us == pytest.approx(2 * cost.expected_us)
    assert product.high_us < 1.5 * product.expected_us


def test_a_device_without_the_format_says_so(h100: Predictor) -> None:
    path = next(path for path in resources.profiles() if path.stem == "a100-sxm-80gb")
    assert Predictor(read_profile(path)).why_not(mixtral(1, "fp8").format) is not None
    assert h100.why_not("fp8") is None
