"""Rounding what is stored, and undoing all rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from planner.compress.storage import write_rounded, write_widened
from tests.ops import models


def answers(path: Path, feeds: dict[str, Any]) -> list[Any]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def test_only_what_is_stored_or_multiplied_is_rounded(tmp_path: Path) -> None:
    """y = (x + x) + x: rounded after the first sum where that is stored, exact otherwise."""
    node = helper.make_node
    nodes = [node("Add", ["x", "x"], ["h"]), node("Add", ["h", "x"], ["y"])]
    path = tmp_path / "m.onnx"
    onnx.save(models.model(nodes, {"x": (64,)}, {"y": (64,)}, {}), path)
    x = models.random(64)
    for stored, wanted in (
        ((), x + x + x),
        (("h",), (x + x).astype(np.float16).astype(np.float32) + x),
    ):
        write_rounded(path, "float16", tmp_path / "r.onnx", stored)
        (found,) = answers(tmp_path / "r.onnx", {"x": x})
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_operands_of_products_and_large_weights_are_rounded(tmp_path: Path, dtype: str) -> None:
    node = helper.make_node
    nodes = [node("Relu", ["x"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    weights = {"w": models.random(64, 64, seed=2)}
    path = tmp_path / "m.onnx"
    onnx.save(models.model(nodes, {"x": (3, 64)}, {"y": (3, 64)}, weights), path)
    write_rounded(path, dtype, tmp_path / "r.onnx", ())
    x = models.random(3, 64)
    (exact,), (found,) = answers(path, {"x": x}), answers(tmp_path / "r.onnx", {"x": x})
    error = float(((exact - found) ** 2).sum() / (exact**2).sum())
    least, most = (1e-9, 1e-6) if dtype == "float16" else (1e-7, 1e-4)
    assert least < error < most


def test_a_widened_model_takes_and_gives_the_same_types(tmp_path: Path) -> None:
    half = TensorProto.FLOAT16
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "w"], ["h"]),
            helper.make_node("Cast", ["h"], ["c"], to=half),
            helper.make_node("Add", ["c", "h"], ["y"]),
        ],
        "half",
        [helper.make_tensor_value_info("x", half, (8,))],
        [helper.make_tensor_value_info("y", half, (8,))],
        [onnx.numpy_helper.from_array(np.full(8, 1.001, np.float16), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(made, tmp_path / "m.onnx")
    write_widened(tmp_path / "m.onnx", tmp_path / "w.onnx")
    x = models.random(8).astype(np.float16)
    (found,) = answers(tmp_path / "w.onnx", {"x": x})
    assert found.dtype == np.float16
    w = np.float32(np.float16(1.001))
    np.testing.assert_array_equal(found, (2 * (x.astype(np.float32) * w)).astype(np.float16))
