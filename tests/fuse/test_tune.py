"""Tuning, with a device that takes the time the test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from planner.fuse.build import Draft, draft
from planner.fuse.live import Live, is_close, noise
from planner.fuse.tune import Class, changed, classes, tune, variants
from planner.graph.semantics import program_of
from planner.kernels.compile import Compiled
from planner.kernels.cubin import Resources
from planner.kernels.source import Kernel
from planner.runtime.fused.driver import SHARED_PERCENT


def layers(count: int) -> Draft:
    """Equal dense layers in a row."""
    names = ["x", *(f"h{i}" for i in range(count))]
    weights = {f"w{i}": np.ones((256, 256), np.float32) * i for i in range(count)}
    nodes = []
    for i in range(count):
        nodes.append(helper.make_node("MatMul", [names[i], f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Relu", [f"m{i}"], [names[i + 1]]))
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (48, 256))],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, (48, 256))],
        [helper.make_tensor(n, TensorProto.FLOAT, v.shape, v.ravel()) for n, v in weights.items()],
    )
    return draft(program_of(helper.make_model(graph)), "float16")


def hidden(plan: Draft) -> Class:
    """The layers between the first, which reads float32, and the last, which writes it."""
    return max(classes(plan), key=lambda one: len(one.roots))


class Clock(Live):
    """No device: a graph takes what `price` says."""

    def __init__(self, price: Mapping[str, float], per_waiting: float) -> None:
        self._price, self._per_waiting, self._known = price, per_waiting, set[str]()
        self.measured = 0
        self.shares_us: dict[int, float] = {}
        self.share = 0
        self.wrong: set[str] = set()

    def load(self, compiled: Mapping[str, Compiled]) -> None:
        self._known |= set(compiled)

    def ask_for(self, shared_percent: int) -> None:
        self.share = shared_percent

    def knows(self, kernels: Sequence[Kernel]) -> bool:  # type: ignore[override]
        return all(item.name in self._known for item in kernels)

    def agrees(self, one: Kernel, other: Kernel) -> bool:
        return other.name not in self.wrong

    def graph_us(self, kernels: Sequence[Kernel], waiting: frozenset[str] = frozenset()) -> float:
        self.measured += 1
        held = sum(item.name in waiting for item in kernels)
        price = sum(self._price.get(item.name, 10.0) for item in kernels)
        return price + held * self._per_waiting + self.shares_us.get(self.share, 0.0)


def compiled(kernels: Sequence[Kernel]) -> dict[str, Compiled]:
    """Stands for the compiler."""
    none = Resources(0, 0, 0)
    return {k.name: Compiled(k.name, 90, b"", "e", 128, 0, none, True) for k in kernels}


def test_equal_layers_are_one_class_and_change_together() -> None:
    plan = layers(5)
    one = hidden(plan)
    assert len(one.roots) == 3
    moved = changed(plan, one.roots, one.configs[1])
    before, after = ([item.name for item in p.kernels] for p in (plan, moved))
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, False, False, True]
    assert len(set(after)) == 3
    turned = 3
    assert len(variants(plan, limit=4)) == 3 * 4 + turned


def test_the_fastest_configuration_in_the_graph_is_found_and_edges_are_chosen() -> None:
    plan = layers(5)
    one = hidden(plan)
    best = changed(plan, one.roots, one.configs[2]).kernels[1].name
    clock = Clock({best: 4.0}, per_waiting=-1.0)
    found = tune(plan, clock, compiled)
    assert {found.chosen[root] for root in one.roots} == {one.configs[2]}
    assert [item.name for item in found.plan.kernels[1:4]] == [best] * 3
    assert found.waiting == {item.name for item in found.plan.kernels}
    assert found.best_us == 2 * 9.0 + 3 * 3.0


@pytest.mark.parametrize(("gained_us", "share"), [(5.0, 25), (0.01, SHARED_PERCENT)])
def test_kernels_ask_for_the_share_that_suits_the_draft(gained_us: float, share: int) -> None:
    clock = Clock({}, per_waiting=1.0)
    clock.shares_us = {25: -gained_us}
    found = tune(layers(3), clock, compiled)
    assert clock.share == share
    assert found.best_us == 30.0 - (gained_us if share == 25 else 0.0)


def test_a_configuration_that_computes_something_else_is_left_out() -> None:
    plan = layers(5)
    one = hidden(plan)
    fast, next_best = (changed(plan, one.roots, one.configs[i]).kernels[1].name for i in (2, 1))
    clock = Clock({fast: 4.0, next_best: 5.0}, per_waiting=1.0)
    clock.wrong = {fast}
    found = tune(plan, clock, compiled)
    assert {found.chosen[root] for root in one.roots} == {one.configs[1]}


def test_rounding_agrees_and_anything_else_does_not() -> None:
    held = noise(4096, "float16").view(np.float16)
    with np.errstate(invalid="ignore"):
        assert is_close(held, held * np.float16(1.001))
    wrong = held.copy()
    wrong[7] += 1
    assert not is_close(held, wrong)
    wrong[7] = np.nan
    assert not is_close(held, wrong)
    assert is_close(wrong, wrong)
    nothing = np.full(3, np.nan)
    assert is_close(nothing, nothing)
    assert not is_close(nothing, np.zeros(3))


def test_kernels_are_told_apart_by_their_warps() -> None:
    plan = layers(5)
    one = hidden(plan)
    config = one.configs[0]
    made = [
        changed(plan, one.roots, replace(config, split=1, warps=warps)).kernels[1].name
        for warps in (4, 8)
    ]
    assert made[0] != made[1]


def test_what_is_never_faster_leaves_the_draft_as_it_is() -> None:
    plan = layers(3)
    prices = {item.name: 1.0 for item in plan.kernels}
    found = tune(plan, Clock(prices, per_waiting=1.0), compiled)
    assert found.plan.kernels == plan.kernels
    assert found.waiting == frozenset()
