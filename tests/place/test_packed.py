"""Packed weights are priced as shares only where ranks can hold shares of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.ir.devices import Place
from planner.ir.graph import Op, Tensor
from planner.ops.sharding import Call, Index, Kind, indices
from planner.ops.sharding.contraction import PACKED
from planner.place.axes import Cut, find_axes
from planner.place.formats import offer
from planner.place.groups import Group, group
from planner.place.memory import Caches
from planner.place.options import Offers
from planner.place.packed import BITS, BLOCK, can_share
from planner.place.price import Pricer
from planner.place.strategy import Spread
from planner.place.variant import Variant
from planner.spec.formats import Format
from tests.place.models import skeleton
from tests.place.test_place import predictor


def packed_sums(depth: int, columns: int, bits: int) -> list[Index]:
    """How the packed product itself can be shared along K."""
    blocks = math.ceil(depth / BLOCK)
    shapes = (
        (4, depth),
        (columns, blocks, BLOCK * bits // 8),
        (columns, blocks),
        (columns, math.ceil(blocks * bits / 8)),
    )
    call = Call(PACKED, shapes, ((4, columns),), {"block_size": BLOCK, "bits": bits})
    return [index for index in indices(call) or () if index.kind is Kind.SUM]


def product(depth: int, columns: int, form: str, degree: int, kind: Kind) -> bool:
    """Whether a product cut along K, or along its columns, can be shared."""
    op = Op("p", "MatMul", "", ("x", "w"), ("y",))
    weight = Tensor("w", "float32", (depth, columns), 4 * depth * columns, is_constant=True)
    own = next(
        index
        for index in indices(Call("MatMul", ((4, depth), (depth, columns)), ((4, columns),), {}))
        or ()
        if index.kind is kind and any(axis.slot == 1 for axis in index.inputs)
    )
    one = Group("p", (op,), ("p",), ("x",), ("y",))
    cut = Spread((0,), degree, {"p": Cut(own, 0)}, {}, {}, (), {}, {})
    return can_share(one, cut, form, {"w": weight})


@given(
    depth=st.integers(2, 40).map(lambda n: 16 * n),
    degree=st.sampled_from((2, 3, 4, 8)),
    form=st.sampled_from(sorted(BITS)),
)
def test_shares_are_those_that_the_packed_product_has(depth: int, degree: int, form: str) -> None:
    sums = packed_sums(depth, 8, BITS[form])
    assert product(depth, 8, form, degree, Kind.SUM) is any(i.extent % degree == 0 for i in sums)
    assert product(depth, 8, form, degree, Kind.PARALLEL)
    assert product(depth, 8, "fp16", degree, Kind.SUM)


@pytest.mark.parametrize(("form", "least"), [("int8_wo", 64), ("int4_wo", 128)])
def test_no_option_shares_blocks_that_stay_whole(form: str, least: int, tmp_path: Path) -> None:
    """Products of 64 and 256 along K, two ranks: 64 is two blocks, and four bits pair them."""
    read = skeleton(tmp_path)
    axes, groups = find_axes(read), group(read)
    known = predictor()
    offered = offer(known, (Format.FP16, Format(form)))
    share = {one.name: 0.1 for one in groups}
    offers = Offers(
        read, axes, groups, Pricer(known, "fp16"), offered, (Place("gpux2", "gpu", 2),), share,
        Caches.find(read.graph, "fp16"),
    )  # fmt: skip
    depths = {
        name: {_shared_depth(offers, v) for v in offers.variants() if v.option.format == name}
        for name in ("fp16", form)
    }
    assert depths["fp16"] == {0, 64, 256}
    assert depths[form] == {0, *(depth for depth in (64, 256) if depth >= least)}


def _shared_depth(offers: Offers, variant: Variant) -> int:
    """The shortest K that a variant's ranks share; 0 where they share none."""
    spread, graph = offers.spread_of(variant), offers.skeleton.graph
    ops = {op.name: op for op in graph.ops}
    weighted = set(offers.groups[variant.group].weighted)
    sums = [n for n, c in spread.choices.items() if n in weighted and c.index.kind is Kind.SUM]
    shapes = [graph.tensors[ops[name].inputs[1]].shape or (0,) for name in sums]
    return min((shape[0] for shape in shapes), default=0)
