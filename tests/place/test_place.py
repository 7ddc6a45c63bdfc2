"""Axes, groups, strategies and prices of a small transformer whose names say nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner import resources
from planner.cost.predictor import Predictor
from planner.ir.devices import Place
from planner.ir.problem import Latency
from planner.place.axes import find_axes
from planner.place.candidates import orders, spans
from planner.place.extents import Extents
from planner.place.formats import PRIORS, offer
from planner.place.forms import SUMMAND, WHOLE, conversion
from planner.place.groups import Group, group
from planner.place.machine import Machine, links
from planner.place.memory import Caches
from planner.place.options import Offers
from planner.place.price import Pricer
from planner.place.strategy import Spread, spread
from planner.place.variant import Variant
from planner.spec.formats import Format
from planner.spec.node import read_node
from planner.spec.profile import read_profile
from tests.place.models import skeleton


def predictor(name: str = "a100-sxm-80gb", node: str = "dgx-a100") -> Predictor:
    device = next(p for p in resources.profiles() if p.stem == name)
    machine = next(p for p in resources.nodes() if p.stem == node)
    return Predictor(read_profile(device), read_node(machine))


def spreads(folder: Path, degree: int) -> list[tuple[Group, list[Spread]]]:
    read = skeleton(folder)
    axes, groups = find_axes(read), group(read)
    extents, span = Extents.find(axes, 2), spans(axes, groups)
    return [
        (one, [spread(one, read, axes, extents, o, degree) for o in orders(one, read, axes, span)])
        for one in groups
    ]


def test_groups_follow_each_other_and_cover_every_operator_once(tmp_path: Path) -> None:
    read = skeleton(tmp_path)
    groups = group(read)
    names = [op.name for one in groups for op in one.ops]
    assert sorted(names) == sorted(op.name for op in read.graph.ops)
    made: set[str] = {*read.graph.inputs}
    for one in groups:
        assert made.issuperset(one.inputs)
        made.update(one.outputs)


def test_fewer_groups_hold_alike_blocks(tmp_path: Path) -> None:
    read = skeleton(tmp_path, layers=12)
    assert len(group(read)) > 24
    few = group(read, most=16)
    assert len(few) <= 16
    kinds = {tuple(op.op_type for op in one.ops) for one in few}
    assert len(kinds) <= 4


def test_heads_and_hidden_units_are_found_without_names(tmp_path: Path) -> None:
    """One all-reduce for attention, one for the feed-forward, all weights cut: Megatron's layout,
    derived from what products contract."""
    sent: list[str] = []
    for one, found in spreads(tmp_path, 2):
        local = next((each for each in found if each.classes), found[0])
        sent += [each.kind for each in local.work[0].collectives]
        assert one.name == "head.weight" or set(one.weighted) <= set(local.choices)
    assert sent == ["all_reduce"] * 4


def test_a_rank_holds_its_share_of_weights(tmp_path: Path) -> None:
    read = skeleton(tmp_path)
    for one, found in spreads(tmp_path, 2):
        for each in found:
            for name, shape in each.weights.items():
                whole = read.graph.tensors[name].shape or ()
                assert math.prod(shape) in (math.prod(whole), math.prod(whole) // 2)
            for name, forms in each.needs.items():
                assert forms == WHOLE or forms.startswith("s"), (one.name, name)


def test_one_position_cannot_be_cut(tmp_path: Path) -> None:
    """Sharding by positions is real in prefill and nothing in decode: no collectives there."""
    for _, found in spreads(tmp_path, 4):
        for each in found:
            prefill, decode = each.work
            assert len(decode.collectives) <= len(prefill.collectives)


@pytest.mark.parametrize(
    ("have", "want", "sent"),
    [
        ((WHOLE,), "s1.0", None),
        ((SUMMAND,), WHOLE, "all_reduce"),
        ((SUMMAND,), "s1.0", "reduce_scatter"),
        (("s1.0",), WHOLE, "all_gather"),
        (("s1.0",), "s2.1", "all_to_all"),
        (("s1.0", WHOLE), "s2.1", None),
    ],
)
def test_conversions(have: tuple[str, ...], want: str, sent: str | None) -> None:
    assert conversion(have, want) == sent


def test_alike_groups_are_priced_once_and_keep_their_own_names(tmp_path: Path) -> None:
    read = skeleton(tmp_path, layers=6)
    axes, groups = find_axes(read), group(read)
    known = predictor()
    offered = offer(known, None)
    caches = Caches.find(read.graph, offered.base)
    places = (Place("gpux1", "gpu", 1), Place("gpux2", "gpu", 2))
    share = {one.name: 0.1 for one in groups}
    offers = Offers(read, axes, groups, Pricer(known, offered.base), offered, places, share, caches)
    variants = offers.variants()
    assert offers.kinds < len(groups)
    for variant in variants:
        own = offers.spread_of(variant)
        states = {(s.tensor, s.form) for s in variant.option.needs}
        assert states == {(n, f) for n, f in own.needs.items() if n not in caches.given}
        assert {s.tensor for s in variant.option.makes} == set(groups[variant.group].outputs)
        assert all(cell.low_us <= cell.expected_us <= cell.high_us for cell in _cells(variant))


def _cells(variant: Variant) -> list[Latency]:
    return [cell for cell in variant.option.latency[0] if cell is not None]


def test_caches_are_what_is_given_extended_and_handed_out(tmp_path: Path) -> None:
    read = skeleton(tmp_path)
    assert Caches.find(read.graph, "fp16").given == {}  # here two operators read each past
    from planner.ir.graph import Graph, Op, Tensor

    tensors = {
        name: Tensor(name, "float32", (1, 2, size, 4), 32 * size)
        for name, size in (("past", 3), ("new", 1), ("present", 4))
    }
    op = Op("c", "Concat", "", ("past", "new"), ("present",))
    graph = Graph((op,), tensors, ("past", "new"), ("present",))
    assert Caches.find(graph, "fp16").given == {}  # which of two inputs is the cache?
    graph = Graph((op,), tensors, ("past",), ("present",))
    assert Caches.find(graph, "fp16").given == {"past": "present"}


def test_links_between_stages_are_as_slow_as_the_devices_are_far_apart() -> None:
    """A pair by NVLink, two pairs by PCIe, several machines by their network."""
    pairs = predictor(node="a100-pairs-x4")
    machine = Machine(64, 4, 2**30, 1.0, None, ())
    times = [links(pairs, machine, count)[0].time_us(2**24) for count in (2, 4, 8)]
    assert times == sorted(times)
    assert times[1] > 2 * times[0]
    assert times[2] > 2 * times[1]
    assert links(pairs, machine)[0].time_us(2**24) == pytest.approx(times[2])
    assert links(pairs, machine, 1) == ()


def test_formats_that_a_device_lacks_are_left_out_with_the_reason() -> None:
    found = offer(predictor(), None)
    assert "fp8" not in found.formats
    assert "A100" in found.excluded["fp8"]
    only = offer(predictor(), (Format.INT8_WO,))
    assert only.base == "fp32"
    assert only.formats == ("fp32", "int8_wo")
    hopper = offer(predictor("h100-sxm-80gb", "dgx-h100"), None)
    assert "fp8" in hopper.formats


Array = np.ndarray[Any, Any]


def rounded(weights: Array, steps: int, group_size: int) -> Array:
    """Symmetric rounding to `steps` levels either way, one scale for each group."""
    parts = weights.reshape(-1, group_size)
    scale = np.abs(parts).max(axis=1, keepdims=True) / steps
    return np.asarray(np.round(parts / scale) * scale).reshape(weights.shape)


def nmse(weights: Array, stored: Array) -> float:
    return float(((weights - stored) ** 2).sum() / (weights**2).sum())


def test_priors_are_what_rounding_of_normal_weights_does() -> None:
    """Within a factor of two: they are priors."""
    weights = np.random.default_rng(0).standard_normal(2**18)
    four = weights.reshape(-1, 4)
    kept = np.argsort(np.abs(four), axis=1) >= 0
    order = np.argsort(np.abs(four), axis=1)
    np.put_along_axis(kept, order[:, :2], values=False, axis=1)
    mantissa, exponent = np.frexp(weights)
    found = {
        "int8_wo": nmse(weights, rounded(weights, 127, 128)),
        "int4_wo": nmse(weights, rounded(weights, 7, 128)),
        "2:4": nmse(four, np.where(kept, four, 0.0)),
        "fp8": 2 * nmse(weights, np.ldexp(np.round(mantissa * 16) / 16, exponent)),
        "fp16": 2 * nmse(weights, weights.astype(np.float16).astype(float)),
    }
    for name, error in found.items():
        assert PRIORS[name].error / 2 <= error <= PRIORS[name].error * 2, (name, error)
