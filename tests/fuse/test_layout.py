"""Channels last between quantised convolutions: what lies there, and that plans mix there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.compress.base import Format
from planner.fuse.options import Offered, Variant, conversions, offer
from planner.ir.problem import Latency, Objective, Problem, Setting, State
from planner.profiling.analyse import analyse
from planner.profiling.kernel import Kernel
from planner.solve.solve import solve
from tests.fuse.build import Cut, check, cut, own_threads
from tests.profiling.build import Array, model, random

__all__ = ["own_threads"]

pytestmark = pytest.mark.usefixtures("own_threads")
node = helper.make_node
Made = tuple[onnx.ModelProto, dict[str, Array]]


def residual() -> Made:
    """Convolutions with a shortcut, a pool and two branches that meet."""
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["a"], name="add"),
        node("Relu", ["a"], ["r2"], name="relu2"),
        node("MaxPool", ["r2"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w3"], ["c3"], name="conv3", pads=[1, 1, 1, 1]),
        node("Relu", ["c3"], ["r3"], name="relu3"),
        node("Conv", ["p", "w4"], ["c4"], name="conv4", pads=[1, 1, 1, 1]),
        node("Concat", ["r3", "c4"], ["k"], name="cat", axis=1),
        node("Conv", ["k", "w5"], ["c5"], name="conv5", pads=[1, 1, 1, 1]),
        node("Relu", ["c5"], ["r5"], name="relu5"),
        node("GlobalAveragePool", ["r5"], ["y"], name="mean"),
    ]
    shapes = {1: (16, 3), 2: (16, 16), 3: (32, 16), 4: (32, 16), 5: (16, 64)}
    weights = {f"w{i}": random(*shape, 3, 3, seed=i) for i, shape in shapes.items()}
    feeds = {"x": random(1, 3, 16, 16)}
    return model(nodes, feeds, ["y"], weights), feeds


def tower() -> Made:
    """Four convolutions in a row, the third halves the picture."""
    nodes = []
    for i in range(1, 5):
        strides = [2, 2] if i == 3 else [1, 1]
        before = "x" if i == 1 else f"r{i - 1}"
        convolution = node(
            "Conv", [before, f"w{i}"], [f"c{i}"], name=f"conv{i}", pads=[1] * 4, strides=strides
        )
        nodes += [convolution, node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}")]
    weights = {f"w{i}": random(32, 32, 3, 3, seed=i) for i in range(1, 5)}
    feeds = {"x": random(1, 32, 16, 16)}
    return model(nodes, feeds, ["r4"], weights), feeds


def _values(folder: Path, made: Made) -> dict[str, Array]:
    """Every tensor of the model as it is."""
    path = folder / "plain.onnx"
    onnx.save(made[0], path)
    return analyse(path, "disabled", made[1], folder).values


def _ranges(values: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    return {name: (float(value.min()), float(value.max())) for name, value in values.items()}


_CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")
_ALL = (*_CONVOLUTIONS, "relu1", "add", "relu2", "pool", "relu3", "cat", "relu5", "mean")


@pytest.mark.parametrize(
    "quantised", [_ALL, _CONVOLUTIONS, ("conv2", "conv5"), ("conv1", "relu1", "conv2")]
)
def test_every_tensor_is_what_its_state_says(quantised: Sequence[str], tmp_path: Path) -> None:
    """Turned back, it follows the tensor of the model that it is said to be."""
    made = residual()
    plain = _values(tmp_path, made)
    assignment = dict.fromkeys(quantised, Format.INT8_STATIC)
    found = cut(tmp_path, *made, "all", assignment, _ranges(plain))
    check(found)
    optimised = analyse(tmp_path / "variant.onnx", "all", made[1], tmp_path)
    last = [name for name in optimised.values if name in found.forms]
    turned = [name for name in last if found.forms[name].form.endswith("nhwc")]
    assert turned
    for name in turned:
        expected = plain[found.forms[name].tensor]
        value = optimised.values[name].astype(np.float64).transpose(0, 3, 1, 2)
        assert value.shape == expected.shape
        assert np.corrcoef(value.ravel(), expected.ravel())[0, 1] > 0.95, found.forms[name]


def test_a_chain_on_bytes_is_cut_between_its_convolutions(tmp_path: Path) -> None:
    made = residual()
    assignment = dict.fromkeys(_ALL, Format.INT8_STATIC)
    found = cut(tmp_path, *made, "all", assignment, _ranges(_values(tmp_path, made)))
    expected = [
        {"conv1", "relu1"}, {"conv2"}, {"add", "relu2"}, {"pool"}, {"conv3", "relu3"}, {"conv4"},
        {"cat"}, {"conv5", "relu5"}, {"mean"},
    ]  # fmt: skip
    assert found.groups == {frozenset(group) for group in expected}
    turns = {(change.source, change.target) for change in found.found.changes}
    assert (State("x", "q8"), State("x", "q8nhwc")) in turns
    assert (State("r5", "q8nhwc"), State("r5", "q8")) in turns


def _price_us(kernel: Kernel) -> float:
    """As if convolutions on bytes paid only while the picture is large: proportional to what is
    written, so that a conversion's price grows with its tensor exactly."""
    is_large = kernel.output_size_bytes >= 32 * 16 * 16
    rates = {"QLinearConv": 1.0 if is_large else 40.0, "Conv": 1.0}
    return kernel.output_size_bytes * rates.get(kernel.op_type, 0.01)


def _priced(name: str, found: Cut, formats: Mapping[str, Format]) -> Variant:
    def price(kernel: int, setting: int, shape: int) -> Latency:
        us = _price_us(found.kernels[kernel])
        return Latency(us, us, us)

    kept = {op: str(form) for op, form in formats.items()}
    return Variant(name, found.found, kept, (0,), price, lambda kernel: 0)


def _problem(graph_of: Cut, variants: Sequence[Variant], offered: Offered) -> Problem:
    graph = graph_of.graph
    sizes = {name: tensor.size_bytes for name, tensor in graph.tensors.items()}
    producer = graph.producer()
    edges = {(producer[n].name, op.name) for op in graph.ops for n in op.inputs if n in producer}
    return Problem(
        ops=tuple(op.name for op in graph.ops),
        edges=tuple(sorted(edges)),
        options=offered.options,
        settings=(Setting("one", (Latency(0.0, 0.0, 0.0),)),),
        conversions=conversions(variants, offered.options, [sizes], settings=1),
        given=tuple(State(name, "plain") for name in graph.inputs),
        wanted=tuple(State(name, "plain") for name in graph.outputs),
        objectives=(Objective.LATENCY,),
    )


def test_a_plan_that_mixes_runs_the_kernels_it_was_priced_with(tmp_path: Path) -> None:
    """Two convolutions on bytes, two not: what is built costs what the solver said it would."""
    made = tower()
    ranges = _ranges(_values(tmp_path, made))
    every = {f"{kind}{i}": Format.INT8_STATIC for i in range(1, 5) for kind in ("conv", "relu")}
    cuts = [cut(tmp_path, *made, "all", formats, ranges) for formats in ({}, every)]
    variants = [_priced(f"v{len(f)}", c, f) for c, f in zip(cuts, ({}, every), strict=True)]
    offered = offer(cuts[0].graph, variants, {}, settings=1, shapes=1)
    solution = solve(_problem(cuts[0], variants, offered))
    chosen = {
        op: Format(form) for name in solution.chosen for op, form in offered.formats[name].items()
    }
    assert {op for op in chosen if op.startswith("conv")} == {"conv1", "conv2"}

    mixed = cut(tmp_path, *made, "all", chosen, ranges)
    check(mixed)
    assert len(mixed.found.regions) == len(solution.chosen) == 4
    known = {kernel.signature for c in cuts for kernel in c.kernels}
    inside = [index for region in mixed.found.regions for index in region.kernels]
    assert {mixed.kernels[index].signature for index in inside} <= known
    assert Counter(mixed.types)["QLinearConv"] == Counter(mixed.types)["Conv"] == 2
    assert solution.totals is not None
    predicted = solution.totals.weighted_latency_us
    assert predicted == pytest.approx(sum(_price_us(kernel) for kernel in mixed.kernels))
