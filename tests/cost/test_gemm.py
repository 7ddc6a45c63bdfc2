"""What the model of products says of kernels that walk the inner dimension in one block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import resources
from planner.cost.family import FAMILIES
from planner.cost.gemm import PRIOR, UNPACKED, products_us
from planner.cost.machine import Machine
from planner.cost.work import Convolution, Product, Work
from planner.spec.profile import read_profile

MACHINE = Machine.of(
    read_profile(next(p for p in resources.profiles() if p.stem == "a100-sxm-80gb"))
)
SIZES = st.integers(1, 8192)


def price(*works: Work, format: str) -> list[float]:
    """Typical microseconds of works of one format."""
    at = {name: value for name, (value, _) in {**PRIOR, **UNPACKED.get(format, {})}.items()}
    columns = FAMILIES["product"].columns(list(works), format)
    found: list[float] = products_us(columns, MACHINE, at).tolist()
    return found


@pytest.mark.parametrize("format", sorted(UNPACKED))
@settings(deadline=None)
@given(m=SIZES, n=SIZES, k=SIZES)
def test_fewer_bits_never_wait_less_than_latency(format: str, m: int, n: int, k: int) -> None:
    """Each step along K loads a line of the activations, whatever the weights' bits."""
    (found,) = price(Product(m, n, k, format=format), format=format)
    steps = np.ceil(np.ceil(k / 32) * 32 * 2 / 128)
    assert found >= PRIOR["start"][0] + steps * UNPACKED[format]["step"][0] * (1 - 1e-9)


@pytest.mark.parametrize("format", sorted(UNPACKED))
def test_widening_hides_behind_multiplying(format: str) -> None:
    """Of the tiles that its kernels have, at eight thousand rows."""
    (packed,) = price(Product(8192, 8192, 8192, format=format), format=format)
    tile = 128 * 128 / 256 / (256 * 128 / 384)
    rate = MACHINE.rate("fp16") * PRIOR["efficiency"][0] * tile ** PRIOR["tile_power"][0]
    assert packed == pytest.approx(2 * 8192**3 / rate, rel=0.05)


def test_few_columns_take_as_long_as_their_inner_dimension() -> None:
    """An A100 took 31 and 34 us for 8 and 4 bits, 512 columns and a K of 10,240, and 15 and 16 for
    256 and 2,560 (AIConfigurator, TensorRT-LLM 1.0): less by bits than by K."""
    long, short = (Product(1, n, k, format="int4_wo") for n, k in ((512, 10240), (256, 2560)))
    eight = Product(1, 512, 10240, format="int8_wo")
    times = [price(one, format=one.format)[0] for one in (long, short, eight)]
    assert times[0] / times[1] > 2
    assert times[2] / times[0] < 1.5


def test_a_convolution_of_few_pixels_is_not_split() -> None:
    window = Convolution(1, 512, 512, 7, 7, (3, 3), format="fp16")
    product = Product(49, 512, 4608, format="fp16")
    conv, split = price(window, format="fp16")[0], price(product, format="fp16")[0]
    assert conv > 1.3 * split
