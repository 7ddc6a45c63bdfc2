"""From files to `ir.Graph`: shapes, sizes, captured tensors, weights inside bodies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from planner.errors import ModelError
from planner.graph.build import build_graph, read_graph
from planner.ir.graph import Graph, Op, Tensor
from tests.graph import nasties
from tests.graph.nasties import model, node, value, weight


def test_a_small_model_as_a_whole(tmp_path: Path) -> None:
    made = nasties.matmul(weight("W", np.eye(4, dtype=np.float32)))
    assert build_graph(nasties.save(made, tmp_path)) == Graph(
        ops=(Op("MatMul", "MatMul", "", ("x", "W"), ("y",)),),
        tensors={
            "W": Tensor("W", "float32", (4, 4), 64, is_constant=True),
            "x": Tensor("x", "float32", (1, 4), 16),
            "y": Tensor("y", "float32", (1, 4), 16),
        },
        inputs=("x",),
        outputs=("y",),
    )


def test_external_weights_need_not_be_there(tmp_path: Path) -> None:
    """`--no-weights` plans a graph whose external data is absent."""
    found = read_graph(nasties.save(nasties.external("absent.bin"), tmp_path), {})
    assert found.weights_size_bytes == 64


def test_what_depends_on_data_is_unknown_until_observed(tmp_path: Path) -> None:
    made = model(
        [node("NonZero", ["x"], ["i"]), node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)],
        outputs=[value("y", None)],
    )
    path = nasties.save(made, tmp_path)
    assert read_graph(path, {}).tensors["i"] == Tensor("i", "int64", None, 0)
    seen = {"i": ("int64", (2, 3)), "x": ("float32", (9, 9)), "nobody": ("float32", (1,))}
    found = read_graph(path, seen)
    assert found.tensors["i"] == Tensor("i", "int64", (2, 3), 48)
    assert found.tensors["x"].shape == (9, 9)
    assert "nobody" not in found.tensors


def test_bodies_capture_and_hold_weights(tmp_path: Path) -> None:
    made = nasties.conditional()
    body = made.graph.node[1].attribute[1].g
    body.initializer.append(weight("inner", np.zeros((8, 8), np.float32)))
    found = read_graph(nasties.save(made, tmp_path), {})
    if_op = found.ops[1]
    assert if_op.inputs == ("flag",)
    assert sorted(if_op.captured) == ["V", "W", "t"]
    assert found.consumers()["t"] == (if_op,)
    assert found.tensors["If::inner"] == Tensor("If::inner", "float32", (8, 8), 256, True)
    assert found.weights_size_bytes == 64 + 16 + 256


def test_sub_byte_weights_are_packed(tmp_path: Path) -> None:
    packed = TensorProto(name="W", data_type=TensorProto.INT4, dims=[5], raw_data=bytes(3))
    made = model(
        [node("DequantizeLinear", ["W", "s"], ["y"])],
        outputs=[value("y", [5])],
        weights=[packed, weight("s", np.array(1.0, np.float32))],
        opset=21,
        ir_version=10,
    )
    found = read_graph(nasties.save(made, tmp_path), {})
    assert found.tensors["W"] == Tensor("W", "int4", (5,), 3, is_constant=True)


def test_defaults_are_no_inputs_and_omitted_operands_stay_empty(tmp_path: Path) -> None:
    made = model(
        [node("Clip", ["x", "", "high"], ["y"])],
        inputs=[value("x"), value("high", [])],
        weights=[weight("high", np.array(1.0, np.float32))],
    )
    found = read_graph(nasties.save(made, tmp_path), {})
    assert found.inputs == ("x",)
    assert found.ops[0].inputs == ("x", "", "high")


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cycle"):
        build_graph(nasties.save(nasties.cycle(), tmp_path))
