"""No price is faster than a device can be, nor absurdly slower; on every device that ships."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import resources
from planner.cost.predictor import Predictor
from planner.cost.work import Attention, Experts, Flow, Product, Traffic, Work
from planner.spec.profile import read_profile

PROFILES = [path.stem for path in resources.profiles()]
FORMATS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8", "int8_wo", "int4_wo", "2:4", "2:4_int8")
LARGE_US = 100.0
"""Roofline from which on a kernel's start says little."""
MOST = 200.0
"""Times the roofline."""
ROUND = 1e-6


@cache
def predictor(name: str) -> Predictor:
    path = next(Path(p) for p in resources.profiles() if p.stem == name)
    return Predictor(read_profile(path))


def roofline_us(at: Predictor, work: Work) -> float:
    machine = at.machine
    rate = machine.rate(work.format) if isinstance(work, Product | Attention | Experts) else 1.0
    arithmetic = 0.0 if isinstance(work, Traffic) else work.flops / rate
    moved = work.size_bytes - machine.cache_size_bytes
    return max(arithmetic, moved / machine.bandwidth)


def powers(first: int, last: int) -> st.SearchStrategy[int]:
    """Sizes near and between powers of two."""
    return st.builds(
        lambda p, more: max(1, 2**p + more), st.integers(first, last), st.integers(-3, 3)
    )


products = st.builds(
    Product, powers(0, 16), powers(4, 16), powers(4, 16), powers(0, 7), st.sampled_from(FORMATS)
)
flows = st.builds(
    lambda read, written, flow, rows: Traffic(float(read), float(written), flow, rows=rows),
    powers(8, 31),
    powers(8, 31),
    st.sampled_from(list(Flow)),
    st.just(0) | powers(0, 16),
)


@st.composite
def attentions(draw: st.DrawFn) -> Attention:
    kv_heads = draw(st.sampled_from((1, 2, 8, 12)))
    heads = kv_heads * draw(st.sampled_from((1, 2, 4, 8)))
    keys = draw(powers(4, 16))
    queries = draw(st.just(1) | st.just(keys))
    width = draw(st.sampled_from((32, 64, 80, 128, 256)))
    return Attention(
        batch=draw(powers(0, 7)),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width,
        queries=queries,
        keys=keys,
        format=draw(st.sampled_from(("fp16", "bf16", "fp32"))),
        cached=draw(st.sampled_from((0, width))) if queries == 1 else 0,
    )


@st.composite
def experts(draw: st.DrawFn) -> Experts:
    tokens, number = draw(powers(0, 13)), draw(st.sampled_from((1, 8, 64, 256)))
    active = min(number, draw(st.sampled_from((1, 2, 8))))
    sizes = (draw(powers(8, 13)), draw(powers(6, 14)))
    format = draw(st.sampled_from(FORMATS))
    return Experts(tokens, tokens * active, *sizes, number, draw(st.booleans()), format)


@pytest.mark.parametrize("name", PROFILES)
@settings(deadline=None, max_examples=8)
@given(works=st.lists(products | attentions() | experts() | flows, min_size=20, max_size=20))
def test_prices_stay_between_the_roofline_and_sense(name: str, works: list[Work]) -> None:
    at = predictor(name)
    usable = [w for w in works if isinstance(w, Traffic) or at.why_not(w.format) is None]
    for work, cost in zip(usable, at.kernels(usable), strict=True):
        least = roofline_us(at, work)
        assert 0 < cost.low_us <= cost.expected_us <= cost.high_us
        assert cost.expected_us >= least * (1 - ROUND), work
        assert least < LARGE_US or cost.expected_us <= MOST * least, work


@pytest.mark.parametrize("name", PROFILES)
def test_more_work_takes_no_less_beyond_what_tiles_round(name: str) -> None:
    """Eight times the rows take longer, and never less than eight tenths of half as many."""
    at = predictor(name)
    for format in (f for f in FORMATS if at.why_not(f) is None):
        sizes = [2**p for p in range(4, 15)]
        costs = at.kernels([Product(m, 4096, 4096, format=format) for m in sizes])
        us = [cost.expected_us for cost in costs]
        assert all(later > 0.8 * earlier for earlier, later in pairwise(us))
        assert all(us[i + 3] > us[i] for i in range(3, len(us) - 3)), (format, us)
