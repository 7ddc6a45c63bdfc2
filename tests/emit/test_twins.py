"""Which parts may share a session: those whose graphs are equal once names are forgotten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from planner.emit.twins import Twins
from planner.spec.session import SessionSettings

SETTINGS = SessionSettings(intra_op_threads=1)


def _layer(prefix: str, *, width: int = 4, alpha: float = 0.5, scale: float = 2.0) -> ModelProto:
    """x @ w, scaled and leaky, with every name its own."""
    names = {key: f"{prefix}.{key}" for key in ("x", "w", "h", "s", "m", "y")}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [names["x"], names["w"]], [names["h"]], f"{prefix}/product"),
            helper.make_node("Mul", [names["h"], names["s"]], [names["m"]], f"{prefix}/scale"),
            helper.make_node("LeakyRelu", [names["m"]], [names["y"]], f"{prefix}/act", alpha=alpha),
        ],
        prefix,
        [
            helper.make_tensor_value_info(names["x"], TensorProto.FLOAT, [1, width]),
            helper.make_tensor_value_info(names["w"], TensorProto.FLOAT, [width, width]),
        ],
        [helper.make_tensor_value_info(names["y"], TensorProto.FLOAT, [1, width])],
        [numpy_helper.from_array(np.array([scale], np.float32), names["s"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_names_alone_do_not_matter() -> None:
    twins = Twins()
    assert twins.of("a", _layer("layers.0"), SETTINGS) is None
    found = twins.of("b", _layer("layers.1"), SETTINGS)
    assert found is not None
    assert found.file == "a"
    assert found.names == {f"layers.1.{key}": f"layers.0.{key}" for key in ("x", "w", "y")}


def _swapped(model: ModelProto) -> ModelProto:
    model.graph.node[0].input[:] = reversed(model.graph.node[0].input)
    return model


def _opset(model: ModelProto) -> ModelProto:
    model.opset_import[0].version = 13
    return model


@pytest.mark.parametrize(
    "other",
    [
        lambda: _layer("b", width=5),
        lambda: _layer("b", alpha=0.25),
        lambda: _layer("b", scale=3.0),
        lambda: _swapped(_layer("b")),
        lambda: _opset(_layer("b")),
    ],
    ids=["shape", "attribute", "constant", "wiring", "opset"],
)
def test_anything_else_does(other: Callable[[], ModelProto]) -> None:
    twins = Twins()
    assert twins.of("a", _layer("a"), SETTINGS) is None
    assert twins.of("b", other(), SETTINGS) is None


def test_other_settings_are_another_session() -> None:
    twins = Twins()
    assert twins.of("a", _layer("a"), SETTINGS) is None
    assert twins.of("b", _layer("b"), SessionSettings(intra_op_threads=2)) is None


def test_a_value_that_one_part_reads_twice_is_no_twin_of_two() -> None:
    one = helper.make_node("Add", ["x", "x"], ["y"])
    two = helper.make_node("Add", ["x", "z"], ["y"])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("x", "z")]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])]
    twins = Twins()
    for name, node in (("a", one), ("b", two)):
        model = helper.make_model(helper.make_graph([node], "g", ports, out))
        assert twins.of(name, model, SETTINGS) is None


def test_constants_in_a_file_beside_each_part_are_not_known_to_be_equal() -> None:
    twins = Twins()
    for name in ("a", "b"):
        model = _layer(name)
        tensor = model.graph.initializer[0]
        set_external_data(tensor, "weights.bin", 0, 4)
        tensor.ClearField("raw_data")
        assert twins.of(name, model, SETTINGS) is None


def test_bodies_have_sessions_of_their_own() -> None:
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [2])
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["v"])], "b", [], [value])
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    ports = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
    ]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])]
    model = helper.make_model(helper.make_graph([node], "g", ports, out))
    twins = Twins()
    assert twins.of("a", model, SETTINGS) is None
    assert twins.of("b", model, SETTINGS) is None
