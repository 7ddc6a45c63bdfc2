"""Configurations of products behind windows."""

from __future__ import annotations

import pytest

from planner.kernels.configs import MAX_PADDING, candidates, default_config, product_us
from planner.kernels.stage import Config, Kind
from planner.kernels.tiling import Shape
from planner.ops.index import Var


def window(channels: int) -> Shape:
    """Nine taps over so many channels, 192 results at each of 3136 places."""
    places, made = Var("p", 3136), Var("c", 192)
    return Shape(
        Kind.PRODUCT, "y", {}, (), (places,), (made,), 9 * channels, is_chain=False, run=channels
    )


def suits(run: int, depth: int) -> bool:
    """Whether steps of this depth stay within the run of a tap, a third of padding at most."""
    return run % depth == 0 or run < depth <= MAX_PADDING * run


@pytest.mark.parametrize("channels", [48, 80, 112, 144])
def test_a_run_that_32_does_not_divide_has_more_than_one_tile(channels: int) -> None:
    """A fallback of 16 x 16 x 16 was all there was (48 channels at 3136 places, H200: 25.5 us, 8.2
    with another tile of depth 16)."""
    shape = window(channels)
    assert default_config(shape).rows * default_config(shape).columns >= 32 * 32
    assert all(suits(channels, config.depth) for config in candidates(shape))


@pytest.mark.parametrize(("channels", "depth"), [(48, 64), (112, 128), (80, 16)])
def test_a_run_is_padded_where_that_is_little(channels: int, depth: int) -> None:
    """48 channels at 196 places, H200: 4.9 us in steps of 16, 2.4 of 64."""
    assert default_config(window(channels)).depth == depth


def test_runs_that_no_step_suits_are_gathered_in_deep_steps() -> None:
    """Three taps over 129 channels took 25 steps of 16."""
    assert min(config.depth for config in candidates(window(129))) > 16


def test_steps_that_pad_are_counted() -> None:
    shape = window(48)
    padded, exact = Config(32, 32, 64, pipeline=3), Config(32, 32, 16, pipeline=3)
    assert product_us(shape, padded) < product_us(shape, exact)
    assert product_us(window(64), padded) == pytest.approx(product_us(shape, padded))


def attention(places: int, heads: int, keys: int) -> Shape:
    """Scores of so many places of each head, kept inside, times values of 64 columns."""
    head, place, column = Var("h", heads), Var("p", places), Var("c", 64)
    return Shape(Kind.PRODUCT, "y", {}, (head,), (place,), (column,), keys, is_chain=True)


def test_a_product_of_products_is_padded_rather_than_looped_over() -> None:
    assert default_config(attention(16, 4, 80)) == Config(16, 64, 128, warps=4)


def test_a_product_of_products_that_loops_takes_wide_tiles_where_blocks_are_many() -> None:
    assert default_config(attention(384, 12, 384)) == Config(64, 64, 128, warps=8)
    few = default_config(attention(64, 4, 1024))
    assert (few.rows, few.depth) == (16, 64)


def test_a_run_that_32_divides_keeps_its_depth() -> None:
    shape = window(64)
    assert min(config.depth for config in candidates(shape)) == 32
