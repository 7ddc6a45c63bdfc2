"""Properties every price must have, on every shipped device."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import resources
from planner.cost.predictor import Predictor
from planner.cost.work import WEIGHT_BYTES, Attention, Convolution, Product, Traffic, Work
from planner.errors import UsageError
from planner.spec.node import read_node
from planner.spec.profile import read_profile

DEVICES = {path.stem: Predictor(read_profile(path)) for path in resources.profiles()}
SIZES = st.integers(1, 20_000)


@settings(deadline=None)
@given(SIZES, SIZES, SIZES, st.sampled_from(sorted(WEIGHT_BYTES)), st.sampled_from(sorted(DEVICES)))
def test_no_product_beats_the_datasheet(m: int, n: int, k: int, form: str, device: str) -> None:
    predictor, work = DEVICES[device], Product(m, n, k, format=form)
    if predictor.why_not(form) is not None:
        with pytest.raises(UsageError, match=device.split("-")[0].upper()):
            predictor.kernel(work)
        return
    cost = predictor.kernel(work)
    assert 0 < cost.low_us <= cost.expected_us <= cost.high_us
    peak = max(rate.value for rate in predictor.device.peak.values())
    assert cost.expected_us >= work.flops / peak * 1e6


@pytest.mark.parametrize("device", sorted(DEVICES))
def test_every_family_has_a_price(device: str) -> None:
    works: list[Work] = [
        Product(128, 1024, 1024, format="fp32"),
        Convolution(1, 64, 64, 56, 56, (3, 3), format="fp32"),
        Attention(1, 16, 16, 64, 1, 512, format="fp32"),
        Traffic(1e6, 1e6),
    ]
    for work in works:
        assert DEVICES[device].kernel(work).expected_us > 0


def test_collectives_need_a_node_that_holds_the_ranks() -> None:
    node = read_node(resources.folder("profiles") / "nodes" / "dgx-a100.yaml")
    predictor = Predictor(DEVICES["a100-sxm-80gb"].device, node)
    eight = predictor.collective("all_reduce", 1e8, 8)
    sixteen = predictor.collective("all_reduce", 1e8, 16)
    assert 100 < eight.expected_us < sixteen.expected_us
    assert predictor.collective("all_reduce", 1e8, 1).expected_us == 0
    with pytest.raises(UsageError, match="2048 ranks"):
        predictor.collective("all_reduce", 1e8, 2048)
    with pytest.raises(UsageError, match="2 ranks"):
        DEVICES["t4-16gb"].collective("all_reduce", 1e8, 2)
