"""Intervals for what is new hold on what was left out, and rest on mistakes of the same kind."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tables.strangers import Missed, fabric_bands, relatives, stranger_bands
from planner.cost.curves import KIN


def mistakes(
    chip: str, key: str, reach: str = "", *, rows: int = 300, bias: float = 0.0, seed: int = 0
) -> Missed:
    rng = np.random.default_rng(seed)
    return Missed(chip, key, bias + rng.normal(0, 0.1, rows), rng.uniform(10, 300, rows), reach)


def width(bands: list[list[float]], latency_us: float = 100.0) -> float:
    return next(float(np.log(high)) for limit, _, high in bands if latency_us < limit)


@pytest.mark.parametrize("chips", [2, 4, 8])
def test_intervals_hold_on_a_chip_that_was_left_out(chips: int) -> None:
    rng = np.random.default_rng(chips)
    inside = []
    for _ in range(60):
        biases = rng.normal(0, 0.2, chips + 1)
        all_ = [mistakes(f"c{n}", "product/fp16", bias=b, seed=n) for n, b in enumerate(biases)]
        bands = stranger_bands(all_[:-1])
        inside.append(np.mean(np.abs(all_[-1].errors) <= width(bands)))
    assert 0.85 <= np.mean(inside) <= 0.995


def test_fewer_chips_mean_wider_intervals_and_many_rows_do_not_help() -> None:
    one = [mistakes("a", "product/fp16")]
    two = [*one, mistakes("b", "product/fp16", seed=1)]
    crumbs = [*one, mistakes("b", "product/fp16", rows=2, seed=1)]
    assert width(stranger_bands(two)) < width(stranger_bands(crumbs))
    assert width(stranger_bands(crumbs)) == pytest.approx(width(stranger_bands(one)), rel=0.05)
    more = [mistakes("a", "product/fp16", rows=3000)]
    assert width(stranger_bands(more)) == pytest.approx(width(stranger_bands(one)), rel=0.1)


def test_a_chip_tells_nothing_of_itself_and_formats_of_their_like() -> None:
    known = [
        mistakes("a", "product/int8", KIN),
        *(mistakes("b", f"product/{form}", KIN) for form in ("fp8", "int8", "2:4", "tf32")),
        mistakes("b", "product/fp16"),
    ]
    found = relatives(known, "product/int4_wo", KIN, "a")
    assert {m.key for m in found} == {"product/fp8", "product/int8", "product/2:4"}
    assert {m.chip for m in found} == {"b"}
    assert [m.key for m in relatives(known, "product/bf16", "", "a")] == ["product/fp16"]


def test_what_a_fabric_carries_is_not_told_by_the_length_of_messages() -> None:
    short = Missed("x", "k", np.full(100, 1.0), np.full(100, 5.0))
    long = Missed("y", "k", np.full(100, 0.1), np.full(100, 5e3))
    bands = fabric_bands([short, long])
    assert len(bands) == 1
    assert width(bands, 1e4) > 1.0
