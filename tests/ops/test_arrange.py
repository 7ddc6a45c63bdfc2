"""Memory order: channels last inside, inputs and outputs as they are, the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planner.graph.semantics import program_of
from planner.ops import reference
from planner.ops.arrange import arranged
from planner.ops.nest import Array, Program


def two_convolutions(groups: int, stride: int) -> onnx.ModelProto:
    """16 channels, a 3 x 3 window, Relu, another 3 x 3 window (grouped)."""
    random = np.random.default_rng(3)
    weights = {
        "w0": random.standard_normal((16, 3, 3, 3)).astype(np.float32),
        "w1": random.standard_normal((16, 16 // groups, 3, 3)).astype(np.float32),
    }
    size = (9 - 1) // stride + 1
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node(
            "Conv", ["b", "w1"], ["c"], pads=[1] * 4, group=groups, strides=[stride] * 2
        ),
        helper.make_node("Add", ["c", "c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 9, 9))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 16, size, size))],
        [helper.make_tensor(n, TensorProto.FLOAT, v.shape, v.ravel()) for n, v in weights.items()],
    )
    return helper.make_model(graph)


def convolved(model: onnx.ModelProto, x: Array) -> Array:
    """The model by ONNX's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    (made,) = list(ReferenceEvaluator(model).run(None, {"x": x}))
    return np.asarray(made)


@pytest.mark.parametrize("groups", [1, 16])
@pytest.mark.parametrize("stride", [1, 2])
def test_windows_read_channels_last_and_compute_the_same(groups: int, stride: int) -> None:
    model = two_convolutions(groups, stride)
    program = program_of(model)
    assert program.types["x"].shape == (1, 3, 9, 9)
    assert program.types["b"].shape == (1, 9, 9, 16)
    x = np.random.default_rng(5).standard_normal((1, 3, 9, 9)).astype(np.float32)
    found = reference.run(program, {"x": x})["y"]
    np.testing.assert_allclose(found, convolved(model, x), rtol=1e-4, atol=1e-4)


def test_a_dense_window_sums_over_taps_first_and_channels_last() -> None:
    program = program_of(two_convolutions(1, 1))
    (window,) = (n for n in program.nests if not n.is_map and "b" in n.reads)
    assert [var.extent for var in window.reduce_axes if var.extent > 1] == [3, 3, 16]
    assert program.types["w1"].shape == (16, 3, 3, 16)


def test_what_is_arranged_stays_so() -> None:
    program = program_of(two_convolutions(1, 1))
    again: Program = arranged(program)
    assert {n: t.shape for n, t in again.types.items()} == {
        n: t.shape for n, t in program.types.items()
    }
