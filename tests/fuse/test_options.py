"""Options of several variants merged, and the conversions between their forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from planner.fuse.options import Variant, conversions, offer
from planner.fuse.regions import FormChange, Partition, Region
from planner.ir.graph import Graph, Op, Tensor
from planner.ir.problem import Latency, State

X, Y, Z = (State(name, "plain") for name in "xyz")
YQ = State("y", "q8")


def graph() -> Graph:
    """x -> a -> y -> b -> z."""
    ops = (Op("a", "Conv", "", ("x",), ("y",)), Op("b", "Conv", "", ("y",), ("z",)))
    tensors = {name: Tensor(name, "float32", (2,), 8) for name in "xyz"}
    return Graph(ops, tensors, ("x",), ("z",))


def variant(
    name: str,
    regions: Sequence[Region],
    formats: Mapping[str, str],
    prices: Mapping[int, float],
    *,
    settings: tuple[int, ...] = (0,),
    changes: Sequence[FormChange] = (),
) -> Variant:
    """A variant whose kernels cost what `prices` says, times (1 + setting), ± 10 %."""

    def price(kernel: int, setting: int, shape: int) -> Latency:
        us = prices[kernel] * (1 + setting) * (1 + shape)
        return Latency(0.9 * us, us, 1.1 * us)

    found = Partition(tuple(regions), tuple(changes))
    return Variant(name, found, formats, settings, price, lambda kernel: 100 + kernel)


def separate(kernels: tuple[int, int] = (0, 1)) -> list[Region]:
    """One region an operator."""
    return [
        Region(("a",), (kernels[0],), (X,), (Y,)),
        Region(("b",), (kernels[1],), (Y,), (Z,)),
    ]


def test_the_same_region_of_two_variants_is_one_option_at_the_lower_price() -> None:
    found = offer(
        graph(),
        [
            variant("one", separate(), {}, {0: 5.0, 1: 7.0}),
            variant("two", separate(), {"b": "int8"}, {0: 4.0, 1: 3.0}),
        ],
        {("b", "int8"): 0.25},
        settings=1,
        shapes=1,
    ).options
    assert [(o.name, o.format, o.error) for o in found] == [
        ("a|native", "native", 0.0),
        ("b|native", "native", 0.0),
        ("b|int8", "int8", 0.25),
    ]
    assert [o.latency[0][0] for o in found] == [
        Latency(3.6, 4.0, 4.4),
        Latency(0.9 * 7.0, 7.0, 1.1 * 7.0),
        Latency(0.9 * 3.0, 3.0, 1.1 * 3.0),
    ]


def test_prices_of_merged_variants_are_minima_per_setting_and_shape() -> None:
    first = variant("one", separate(), {}, {0: 5.0, 1: 1.0}, settings=(0, 1))
    second = variant("two", separate(), {}, {0: 4.0, 1: 2.0}, settings=(1, 2))
    found = offer(graph(), [first, second], {}, settings=4, shapes=2).options
    expected = {
        "a|native": [(5.0, 10.0), (8.0, 16.0), (12.0, 24.0), None],
        "b|native": [(1.0, 2.0), (2.0, 4.0), (6.0, 12.0), None],
    }
    for option in found:
        rows = [
            None if row[0] is None else tuple(price.expected_us for price in row if price)
            for row in option.latency
        ]
        assert rows == expected[option.name]


def test_names_are_unique_where_regions_differ() -> None:
    both = Region(("a", "b"), (0,), (X,), (Z,))
    quantised = [Region(("a",), (0,), (X,), (YQ,)), Region(("b",), (1,), (YQ,), (Z,))]
    found = offer(
        graph(),
        [
            variant("one", separate(), {}, {0: 1.0, 1: 1.0}),
            variant("two", [both], {}, {0: 1.0}),
            variant("three", quantised, {"a": "int8", "b": "int8"}, {0: 1.0, 1: 1.0}),
            variant("four", separate(), {"a": "int8", "b": "int8"}, {0: 1.0, 1: 1.0}),
            variant("five", [both], {"a": "int8", "b": "int4"}, {0: 1.0}),
        ],
        {},
        settings=1,
        shapes=1,
    ).options
    names = [option.name for option in found]
    assert len(set(names)) == len(names) == 8
    assert "a|int4+int8" in names
    assert {"a|native", "a|native|2", "a|int8", "a|int8|2"} <= set(names)


def test_a_region_folded_away_costs_nothing_and_weights_add_up() -> None:
    regions = [Region(("a",), (), (), (Y,)), Region(("b",), (0, 1), (Y,), (Z,))]
    found = offer(
        graph(), [variant("v", regions, {}, {0: 1.0, 1: 2.0})], {}, settings=1, shapes=1
    ).options
    assert found[0].latency[0][0] == Latency(0.0, 0.0, 0.0)
    assert found[1].weight_size_bytes == 100 + 101
    assert found[1].latency[0][0] == Latency(0.9 + 1.8, 3.0, 1.1 + 2.2)


def test_operators_keep_the_order_of_the_graph() -> None:
    backwards = list(reversed(separate()))
    found = offer(
        graph(), [variant("v", backwards, {}, {0: 1.0, 1: 2.0})], {}, settings=1, shapes=1
    ).options
    assert [option.ops for option in found] == [("a",), ("b",)]


def _changes() -> Variant:
    quantised = [Region(("a",), (0,), (X,), (YQ,)), Region(("b",), (1,), (Y,), (Z,))]
    change = FormChange(2, YQ, Y)
    formats = {"a": "int8"}
    return variant("q", quantised, formats, {0: 1.0, 1: 1.0, 2: 6.0}, changes=[change])


def test_a_measured_change_keeps_its_price_and_unknown_kinds_are_left_out() -> None:
    made = [_changes()]
    offered = offer(graph(), made, {}, settings=2, shapes=1).options
    found = conversions(made, offered, [{"y": 8}], settings=2)
    assert [(c.name, c.source, c.target) for c in found] == [("y|q8->plain", YQ, Y)]
    assert found[0].latency == ((Latency(0.9 * 6.0, 6.0, 1.1 * 6.0),), (None,))


@pytest.mark.parametrize(("size", "expected"), [(8, 6.0), (16, 12.0), (4, 3.0)])
def test_the_same_change_of_another_tensor_is_scaled_by_its_size(
    size: int, expected: float
) -> None:
    other = [Region(("a",), (0,), (State("x", "q8"),), (Y,)), Region(("b",), (1,), (Y,), (Z,))]
    made = [_changes(), variant("other", other, {"a": "int8"}, {0: 1.0, 1: 1.0})]
    change = FormChange(2, State("y", "plain"), YQ)
    quantising = variant("r", separate(), {}, {0: 1.0, 1: 1.0, 2: 6.0}, changes=[change])
    made.append(quantising)
    offered = offer(graph(), made, {}, settings=1, shapes=2).options
    sizes = [{"y": 8, "x": size}, {"y": 80, "x": 20 * size}]
    found = conversions(made, offered, sizes, settings=1)
    assert len({conversion.name for conversion in found}) == len(found)
    first, second = next(c.latency[0] for c in found if c.name == "x|plain->q8")
    assert first is not None
    assert first.expected_us == pytest.approx(expected)
    assert second is not None
    assert second.expected_us == pytest.approx(2 * 2 * expected)  # shape 1 costs twice shape 0
    assert first.low_us == pytest.approx(expected / 2)
    assert first.high_us == pytest.approx(expected * 2)
