"""Whole models in the language of nests, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from planner.errors import ModelError
from planner.graph.semantics import program_of, read_program
from planner.ops import reference
from planner.ops.builder import NotCovered
from planner.ops.lower import tidy
from tests.ops import models


@pytest.mark.parametrize("build", [models.block, models.attention, models.convolutions])
def test_a_program_computes_what_the_model_computes(build: Callable[[], onnx.ModelProto]) -> None:
    made = build()
    feeds = models.feeds_of(made)
    program = program_of(made)
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found = reference.run(program, feeds)
    for port, wanted in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(found[port.name], wanted, rtol=1e-4, atol=1e-5)


def test_what_only_weights_decide_is_computed_ahead() -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Transpose", ["w"], ["t"], perm=[1, 0]),
        node("Mul", ["t", "s"], ["ts"]),
        node("MatMul", ["x", "ts"], ["y"]),
    ]
    weights = {"w": models.random(6, 4), "s": models.random(6, seed=1)}
    program = program_of(models.model(nodes, {"x": (3, 4)}, {"y": (3, 6)}, weights))
    assert [nest.name for nest in program.nests] == ["y"]
    np.testing.assert_allclose(program.constants["ts"], weights["w"].T * weights["s"], rtol=1e-6)
    assert tidy(program).nests == program.nests


def test_an_output_that_is_known_ahead_is_written_all_the_same() -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Cast", ["s"], ["y"], to=onnx.TensorProto.FLOAT),
        node("Mul", ["x", "y"], ["z"]),
    ]
    program = program_of(models.model(nodes, {"x": (3, 2)}, {"y": (2,), "z": (3, 2)}, {}))
    feeds = {"x": models.random(3, 2)}
    found = reference.run(program, feeds)
    np.testing.assert_array_equal(found["y"], [3, 2])
    np.testing.assert_allclose(found["z"], feeds["x"] * [3, 2], rtol=1e-6)
    assert set(program.outputs) <= program.by_name.keys()


def test_batch_normalisation_becomes_a_scale_and_a_shift() -> None:
    node = onnx.helper.make_node
    names = ["x", "g", "b", "m", "v"]
    weights = {name: np.abs(models.random(4, seed=i)) for i, name in enumerate(names[1:])}
    nodes = [node("BatchNormalization", names, ["y"])]
    program = program_of(models.model(nodes, {"x": (2, 4, 3)}, {"y": (2, 4, 3)}, weights))
    assert len(program.nests) == 1
    assert len(program.constants) == 2


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_types_that_no_kernel_reads_are_named(dtype: type[np.generic]) -> None:
    ports = [onnx.helper.make_tensor_value_info(n, _type(dtype), (3,)) for n in "xy"]
    nodes = [onnx.helper.make_node("Add", ["x", "x"], ["y"], name="wide")]
    made = onnx.helper.make_model(onnx.helper.make_graph(nodes, "t", ports[:1], ports[1:]))
    with pytest.raises(NotCovered, match=f"wide: 'x' is of type {np.dtype(dtype).name}"):
        program_of(made)


def _type(dtype: type[np.generic]) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def test_an_operator_without_meaning_is_named() -> None:
    nodes = [onnx.helper.make_node("Det", ["x"], ["y"], name="the_determinant")]
    made = models.model(nodes, {"x": (3, 3)}, {"y": ()}, {})
    with pytest.raises(NotCovered, match="the_determinant: operator Det"):
        program_of(made)


def test_an_input_without_a_static_shape_is_refused() -> None:
    made = models.block()
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    with pytest.raises(ModelError, match="'x' has no static shape"):
        program_of(made)


def test_a_program_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(models.block(), path)
    assert read_program(path).inputs == ("x",)
