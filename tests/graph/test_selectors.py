"""Inputs that choose a branch get the value that the model compares them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.compress.synthetic import synthetic_samples
from planner.graph.build import build_graph
from planner.graph.selectors import selectors
from planner.spec.manifest import TensorSpec


def _branch(name: str, kind: str) -> onnx.GraphProto:
    output = helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(kind, ["x"], [f"{name}.y"])], name, [], [output])


def _model(
    rate: list[int], *, is_stored: bool, is_turned: bool, through: str = ""
) -> onnx.ModelProto:
    """Two branches by an input `rate`."""
    wanted = numpy_helper.from_array(np.array(16_000, np.int64), "wanted")
    nodes = [] if is_stored else [helper.make_node("Constant", [], ["wanted"], value=wanted)]
    name = "rate"
    if through:
        nodes.append(helper.make_node(through, ["rate"], ["seen"]))
        name = "seen"
    pair = ["wanted", name] if is_turned else [name, "wanted"]
    nodes.append(helper.make_node("Equal", pair, ["is_wide"]))
    branches = {"then_branch": _branch("wide", "Relu"), "else_branch": _branch("narrow", "Neg")}
    nodes.append(helper.make_node("If", ["is_wide"], ["y"], **branches))
    graph = helper.make_graph(
        nodes,
        "rates",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("rate", TensorProto.INT64, rate),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [wanted] if is_stored else [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("is_turned", [True, False])
@pytest.mark.parametrize("through", ["", "Identity", "Squeeze"])
def test_the_compared_value_is_found(is_stored: bool, is_turned: bool, through: str) -> None:
    rate = [1] if through == "Squeeze" else []
    model = _model(rate, is_stored=is_stored, is_turned=is_turned, through=through)
    assert selectors(model.graph) == {"rate": 16_000}


def test_inputs_of_several_numbers_select_nothing() -> None:
    assert selectors(_model([3], is_stored=True, is_turned=False).graph) == {}


def test_synthetic_inputs_take_the_branch_that_the_model_asks_about(tmp_path: Path) -> None:
    path = tmp_path / "rates.onnx"
    onnx.save(_model([], is_stored=False, is_turned=False), path)
    spec = TensorSpec(name="rate", dtype="int64", shape=())
    samples = synthetic_samples([spec], 2, graph=build_graph(path))
    assert samples.arrays["rate"].tolist() == [16_000, 16_000]


def test_constants_in_other_files_are_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "rates.onnx"
    onnx.save(
        _model([], is_stored=True, is_turned=False),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert build_graph(path).selectors == {}


def test_what_indexes_a_table_is_drawn_though_it_is_compared(tmp_path: Path) -> None:
    """A token that is compared with the one for padding is still any token."""
    table = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Equal", ["token", "padding"], ["is_padding"]),
        helper.make_node("Gather", ["table", "token"], ["found"]),
        helper.make_node("Where", ["is_padding", "nothing", "found"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info("token", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array(3), "padding"),
            numpy_helper.from_array(np.array(0, np.float32), "nothing"),
        ],
    )
    path = tmp_path / "tokens.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    spec = TensorSpec(name="token", dtype="int64", shape=(1,))
    drawn = synthetic_samples([spec], 20, graph=build_graph(path)).arrays["token"]
    assert len(np.unique(drawn)) > 5
