"""Regions of what ONNX Runtime really makes of small models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.compress.base import Format
from planner.ir.problem import State
from tests.fuse.build import Cut, check, cut, own_threads
from tests.profiling.build import Array, model, random

__all__ = ["own_threads"]

Made = tuple[onnx.ModelProto, dict[str, Array]]
node = helper.make_node

pytestmark = pytest.mark.usefixtures("own_threads")


def gelu_block() -> Made:
    """MatMul, Add, Gelu out of its five parts, MatMul."""
    nodes = [
        node("MatMul", ["x", "w1"], ["m"], name="mm1"),
        node("Add", ["m", "b1"], ["h"], name="add1"),
        node("Div", ["h", "root2"], ["d"], name="div"),
        node("Erf", ["d"], ["e"], name="erf"),
        node("Add", ["e", "one"], ["p"], name="plus"),
        node("Mul", ["h", "p"], ["q"], name="mul"),
        node("Mul", ["q", "half"], ["g"], name="halve"),
        node("MatMul", ["g", "w2"], ["y"], name="mm2"),
    ]
    weights = {
        "w1": random(16, 32),
        "b1": random(32),
        "w2": random(32, 8),
        "root2": np.full((), np.sqrt(2), np.float32),
        "one": np.ones((), np.float32),
        "half": np.full((), 0.5, np.float32),
    }
    feeds = {"x": random(1, 4, 16)}
    return model(nodes, feeds, ["y"], weights), feeds


def conv_chain() -> Made:
    """Conv, BatchNormalization, Relu, Conv, Add of a shortcut, Relu: blocked by 16 channels."""
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "s", "b", "m", "v"], ["n1"], name="norm1"),
        node("Relu", ["n1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["a"], name="shortcut"),
        node("Relu", ["a"], ["r2"], name="relu2"),
        node("GlobalAveragePool", ["r2"], ["y"], name="pool"),
    ]
    weights = {
        "w1": random(32, 16, 3, 3),
        "w2": random(32, 32, 3, 3),
        "s": np.ones(32, np.float32),
        "b": random(32),
        "m": random(32, seed=3),
        "v": np.ones(32, np.float32),
    }
    feeds = {"x": random(1, 16, 8, 8)}
    return model(nodes, feeds, ["y"], weights), feeds


def plain_convolutions() -> Made:
    """Conv, Relu, Conv, Relu."""
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["r2"], name="relu2"),
    ]
    weights = {"w1": random(32, 16, 3, 3), "w2": random(32, 32, 3, 3)}
    feeds = {"x": random(1, 16, 8, 8)}
    return model(nodes, feeds, ["r2"], weights), feeds


def attention_block() -> Made:
    """LayerNormalization in its parts, two heads of attention, residual."""
    nodes = [
        node("ReduceMean", ["x"], ["mean"], name="mean", axes=[-1]),
        node("Sub", ["x", "mean"], ["centred"], name="sub"),
        node("Pow", ["centred", "two"], ["square"], name="pow"),
        node("ReduceMean", ["square"], ["variance"], name="variance", axes=[-1]),
        node("Add", ["variance", "epsilon"], ["safe"], name="epsilon_add"),
        node("Sqrt", ["safe"], ["deviation"], name="sqrt"),
        node("Div", ["centred", "deviation"], ["normal"], name="div"),
        node("Mul", ["normal", "gain"], ["scaled"], name="gain_mul"),
        node("Add", ["scaled", "offset"], ["n"], name="offset_add"),
    ]
    for part in "qkv":
        nodes += [
            node("MatMul", ["n", f"w{part}"], [f"{part}1"], name=f"{part}_mm"),
            node("Add", [f"{part}1", f"b{part}"], [f"{part}2"], name=f"{part}_add"),
            node("Reshape", [f"{part}2", "heads"], [f"{part}3"], name=f"{part}_reshape"),
            node(
                "Transpose",
                [f"{part}3"],
                [f"{part}4"],
                name=f"{part}_transpose",
                perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3],
            ),
        ]
    nodes += [
        node("MatMul", ["q4", "k4"], ["scores"], name="scores_mm"),
        node("Div", ["scores", "root"], ["scaled_scores"], name="scores_div"),
        node("Softmax", ["scaled_scores"], ["weights"], name="softmax", axis=-1),
        node("MatMul", ["weights", "v4"], ["context"], name="context_mm"),
        node("Transpose", ["context"], ["c2"], name="context_transpose", perm=[0, 2, 1, 3]),
        node("Reshape", ["c2", "flat"], ["c3"], name="context_reshape"),
        node("MatMul", ["c3", "wo"], ["o1"], name="out_mm"),
        node("Add", ["o1", "bo"], ["o2"], name="out_add"),
        node("Add", ["o2", "x"], ["y"], name="residual"),
    ]
    weights = {
        **{f"w{part}": random(32, 32, seed=ord(part)) for part in "qkvo"},
        **{f"b{part}": random(32, seed=ord(part)) for part in "qkvo"},
        "two": np.full((), 2, np.float32),
        "epsilon": np.full((), 1e-5, np.float32),
        "gain": np.ones(32, np.float32),
        "offset": np.zeros(32, np.float32),
        "root": np.full((), 4, np.float32),
        "heads": np.array([1, 6, 2, 16], np.int64),
        "flat": np.array([1, 6, 32], np.int64),
    }
    feeds = {"x": random(1, 6, 32)}
    return model(nodes, feeds, ["y"], weights), feeds


def branches() -> Made:
    """An If that captures a computed tensor, between two layers."""

    def branch(kind: str) -> onnx.GraphProto:
        made = [node(kind, ["h"], ["made"], name=f"inner_{kind}")]
        return helper.make_graph(made, kind, [], [onnx.ValueInfoProto(name="made")])

    nodes = [
        node("MatMul", ["x", "w1"], ["h"], name="mm1"),
        node("ReduceSum", ["h"], ["total"], name="total", keepdims=0),
        node("Greater", ["total", "zero"], ["flag"], name="greater"),
        node(
            "If", ["flag"], ["b"], name="if", then_branch=branch("Exp"), else_branch=branch("Neg")
        ),
        node("MatMul", ["b", "w2"], ["y"], name="mm2"),
    ]
    weights = {"w1": random(8, 8), "w2": random(8, 4), "zero": np.zeros((), np.float32)}
    feeds = {"x": random(2, 8)}
    return model(nodes, feeds, ["y"], weights), feeds


def folded() -> Made:
    """Constants that fold away, an operator nobody reads, an output that is an input."""
    nodes = [
        node("Exp", ["c"], ["folded"], name="exp"),
        node("Add", ["x", "folded"], ["y"], name="add"),
        node("Identity", ["y"], ["same"], name="identity"),
        node("Relu", ["x"], ["unused"], name="unused"),
        node("Dropout", ["same"], ["z"], name="dropout"),
    ]
    feeds = {"x": random(2, 4)}
    return model(nodes, feeds, ["z"], {"c": random(4)}), feeds


MODELS = {
    "gelu": gelu_block,
    "conv": conv_chain,
    "attention": attention_block,
    "branches": branches,
    "folded": folded,
}


@pytest.mark.parametrize("level", ["disabled", "basic", "extended", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_regions_cover_and_can_be_put_in_order(name: str, level: str, tmp_path: Path) -> None:
    made = cut(tmp_path, *MODELS[name](), level)
    check(made)


def test_without_optimisation_every_operator_is_a_region_of_its_own(tmp_path: Path) -> None:
    made = cut(tmp_path, *gelu_block(), "disabled")
    assert made.groups == {frozenset({op.name}) for op in made.graph.ops}


def test_bias_joins_its_product_and_gelu_is_one_region(tmp_path: Path) -> None:
    made = cut(tmp_path, *gelu_block())
    assert made.types == ["Reshape", "Gemm", "Reshape", "Gelu", "MatMul"]
    gelu = frozenset({"div", "erf", "plus", "mul", "halve"})
    assert made.groups == {frozenset({"mm1", "add1"}), gelu, frozenset({"mm2"})}
    first = next(region for region in made.found.regions if "mm1" in region.ops)
    assert first.kernels == (0, 1, 2)


def test_blocked_convolutions_pass_their_layout_on(tmp_path: Path) -> None:
    made = cut(tmp_path, *conv_chain())
    assert "ReorderOutput" in made.types
    assert made.region_of("norm1") == {"conv1", "norm1", "relu1"}
    assert made.region_of("relu2") == {"conv2", "shortcut", "relu2"}
    makes = {state for region in made.found.regions for state in region.makes}
    assert State("r1", "nchwc") in makes
    assert State("r2", "nchwc") in makes


def test_extended_keeps_the_plain_layout(tmp_path: Path) -> None:
    made = cut(tmp_path, *conv_chain(), "extended")
    states = {s for region in made.found.regions for s in (*region.needs, *region.makes)}
    assert {state.form for state in states} == {"plain"}
    assert made.found.changes == ()


def _quantised(folder: Path, level: str) -> Cut:
    ops = dict.fromkeys(("conv1", "conv2"), Format.INT8_STATIC)
    made, feeds = plain_convolutions()
    ranges = dict.fromkeys(("x", "c1", "r1", "c2", "r2"), (0.0, 3.0))
    return cut(folder, made, feeds, level, ops, ranges)


def test_quantised_convolutions_pass_q8_on(tmp_path: Path) -> None:
    made = _quantised(tmp_path, "extended")
    check(made)
    assert made.types.count("QLinearConv") == 2
    assert made.region_of("conv1") != made.region_of("conv2")
    second = next(region for region in made.found.regions if "conv2" in region.ops)
    assert {state.form for state in (*second.needs, *second.makes)} == {"q8"}
    assert any(change.target == State("x", "q8") for change in made.found.changes)


def test_quantised_convolutions_pass_channels_last_on(tmp_path: Path) -> None:
    made = _quantised(tmp_path, "all")
    check(made)
    assert made.region_of("conv1") == {"conv1"}
    second = next(region for region in made.found.regions if "conv2" in region.ops)
    assert {state.form for state in (*second.needs, *second.makes)} == {"q8nhwc"}


def test_a_swallowed_addition_needs_both_its_inputs(tmp_path: Path) -> None:
    """x -> Conv -> Add(other) -> Relu as one blocked kernel, the sum's other input its fourth."""
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("Conv", ["x", "w2"], ["c2"], name="conv2"),
        node("Add", ["c1", "c2"], ["a"], name="add"),
        node("Relu", ["a"], ["r"], name="relu"),
        node("MaxPool", ["r"], ["y"], name="pool", kernel_shape=[2, 2]),
    ]
    weights = {"w1": random(32, 16, 3, 3), "w2": random(32, 16, 1, 1)}
    feeds = {"x": random(1, 16, 8, 8)}
    made = cut(tmp_path, model(nodes, feeds, ["y", "r"], weights), feeds)
    check(made)
    assert made.types.count("Conv") == 2
    sum_region = next(region for region in made.found.regions if "add" in region.ops)
    assert "relu" in sum_region.ops
    assert len(set(sum_region.ops) & {"conv1", "conv2"}) == 1
    assert State("r", "nchwc") in sum_region.makes
    assert {state.form for state in sum_region.needs} == {"nchwc"}


def test_layer_normalisation_is_one_region(tmp_path: Path) -> None:
    made = cut(tmp_path, *attention_block())
    assert "LayerNormalization" in made.types
    assert made.region_of("sqrt") >= {"mean", "sub", "pow", "variance", "sqrt", "div"}


@pytest.mark.parametrize("format_", [Format.INT8_DYNAMIC, Format.INT8_WO, Format.INT4_WO])
def test_compressed_attention_is_cut_like_the_native_one(tmp_path: Path, format_: Format) -> None:
    ops = dict.fromkeys(("q_mm", "k_mm", "v_mm", "out_mm"), format_)
    made = cut(tmp_path, *attention_block(), "all", ops)
    check(made)
    assert "q_mm" in made.region_of("q_mm")
    native = cut(tmp_path, *attention_block())
    assert made.region_of("softmax") == native.region_of("softmax")


def test_what_a_branch_captures_is_a_need(tmp_path: Path) -> None:
    made = cut(tmp_path, *branches())
    branch = next(region for region in made.found.regions if "if" in region.ops)
    assert State("h", "plain") in branch.needs


def test_weights_stored_in_8_bit_are_unpacked_by_an_operator(tmp_path: Path) -> None:
    nodes = [
        node("DequantizeLinear", ["wq", "scale"], ["w"], name="unpack"),
        node("MatMul", ["x", "w"], ["y"], name="mm"),
    ]
    weights: dict[str, Array] = {
        "wq": np.ones((16, 8), np.int8),
        "scale": np.full((), 0.1, np.float32),
    }
    feeds = {"x": random(1, 16)}
    made = cut(tmp_path, model(nodes, feeds, ["y"], weights), feeds, "disabled")
    check(made)
    assert made.found.changes == ()
    assert made.groups == {frozenset({"unpack"}), frozenset({"mm"})}
