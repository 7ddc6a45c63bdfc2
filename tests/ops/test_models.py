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


def test_batch_normalisation_becomes_a_scale_and_a_shift() -> None:
    node = onnx.helper.make_node
    names = ["x", "g", "b", "m", "v"]
    weights = {name: np.abs(models.random(4, seed=i)) for i, name in enumerate(names[1:])}
    nodes = [node("BatchNormalization", names, ["y"])]
    program = program_of(models.model(nodes, {"x": (2, 4, 3)}, {"y": (2, 4, 3)}, weights))
    assert len(program.nests) == 1
    assert len(program.constants) == 2


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
