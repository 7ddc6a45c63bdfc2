"""Properties every price must have, on every shipped device."""

from __future__ import annotations

import numpy as np
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
    if form == "2:4_int8":  # profiles list dense rates of 8 bits; datasheets, twice that with 2:4
        peak = max(peak, 2 * predictor.device.peak["int8"].value)
    assert cost.expected_us >= work.flops / peak * 1e6
    assert cost.low_us >= work.flops / peak * 1e6 * (1 - 1e-9)
    moved = work.size_bytes - predictor.machine.cache_size_bytes
    assert cost.low_us >= moved / predictor.machine.bandwidth * (1 - 1e-9)


@settings(deadline=None)
@given(st.integers(1, 256), SIZES, SIZES, st.sampled_from(["l20-48gb", "rtx-4090-24gb", "t4-16gb"]))
def test_fewer_rows_never_cost_more_where_nothing_was_measured(
    m: int, n: int, k: int, device: str
) -> None:
    """One tile of rows draws less bandwidth in the model than two, which read the same weights."""
    some, more = (Product(rows, n, k) for rows in (m, 2 * m))
    few, many = DEVICES[device].kernels([some, more])
    assert few.expected_us <= many.expected_us * 1.0001


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


def test_collectives_nobody_measured_take_the_closest_and_say_how_sure_they_are() -> None:
    fabrics = {"dgx-a100": "a100-sxm-80gb", "dgx-h100": "h100-sxm-80gb"}
    widths = {}
    for name, device in fabrics.items():
        node = read_node(resources.folder("profiles") / "nodes" / f"{name}.yaml")
        cost = Predictor(DEVICES[device].device, node).collective("all_gather", 2**26, 8)
        widths[name] = cost.high_us / cost.low_us
    assert widths["dgx-h100"] > widths["dgx-a100"]
    node = read_node(resources.folder("profiles") / "nodes" / "l40s-x8.yaml")
    predictor = Predictor(DEVICES["l40s-48gb"].device, node)
    once, twice = (predictor.collective(k, 2**28, 8) for k in ("all_gather", "all_reduce"))
    assert once.expected_us == pytest.approx(twice.expected_us / 2, rel=0.3)


def test_prices_are_less_sure_where_less_was_measured() -> None:
    fit = DEVICES["a100-sxm-80gb"].fit("product/bf16")
    near, far = (np.array([[np.log2(m), 12.0, 12.0]]) for m in (256, 2**24))
    inside, outside = (fit.edges(np.array([1e3]), at)[0] for at in (near, far))
    assert outside[0] <= inside[0] < 1 < inside[1] <= outside[1]
    assert outside[1] / outside[0] > inside[1] / inside[0]
    strange = DEVICES["l40s-48gb"].kernel(Product(2048, 4096, 4096, format="bf16"))
    assert strange.high_us / strange.low_us > outside[1] / outside[0]
