"""Configurations of products behind windows."""

from __future__ import annotations

import pytest

from planner.kernels.configs import candidates, default_config
from planner.kernels.stage import Kind
from planner.kernels.tiling import Shape
from planner.ops.index import Var


def window(channels: int) -> Shape:
    """Nine taps over so many channels, 192 results at each of 3136 places."""
    places, made = Var("p", 3136), Var("c", 192)
    return Shape(
        Kind.PRODUCT, "y", {}, (), (places,), (made,), 9 * channels, is_chain=False, run=channels
    )


@pytest.mark.parametrize("channels", [48, 80, 112, 144])
def test_a_run_that_32_does_not_divide_has_more_than_one_tile(channels: int) -> None:
    """A fallback of 16 x 16 x 16 was all there was (48 channels at 3136 places, H200: 25.5 us, 8.2
    with another tile of depth 16)."""
    shape = window(channels)
    assert channels % default_config(shape).depth == 0
    assert default_config(shape).rows * default_config(shape).columns >= 32 * 32
    assert all(channels % config.depth == 0 for config in candidates(shape))


def test_a_run_that_32_divides_keeps_its_depth() -> None:
    shape = window(64)
    assert min(config.depth for config in candidates(shape)) == 32
