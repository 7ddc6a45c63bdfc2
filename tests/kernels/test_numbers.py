"""Generated kernels against the reference evaluator, run by Triton's CPU interpreter.

Programs of one test share a process: starting the interpreter costs more than running them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.fuse.build import draft
from planner.fuse.greedy import group
from planner.graph.semantics import program_of
from planner.kernels.stage import Config
from planner.ops import reference
from tests.kernels.run import needs_triton, nmse, run_interpreted
from tests.ops import models

pytestmark = needs_triton


def rows(
    op: str, shape: tuple[int, ...], made: tuple[int, ...], **attributes: Any
) -> onnx.ModelProto:
    """One operator on one input."""
    return models.model(
        [helper.make_node(op, ["x"], ["y"], **attributes)], {"x": shape}, {"y": made}, {}
    )


def mixed_movement() -> onnx.ModelProto:
    """Index maps on top of each other, ending in arithmetic."""
    node = helper.make_node
    nodes = [
        node("Concat", ["x", "z"], ["c"], axis=1),
        node("Slice", ["c", "start", "end", "axes", "steps"], ["s"]),
        node("Pad", ["s", "pads"], ["p"]),
        node("Transpose", ["p"], ["t"], perm=[1, 0]),
        node("Reshape", ["t", "shape"], ["r"]),
        node("Gather", ["r", "rows"], ["g"], axis=0),
        node("Mul", ["g", "g"], ["y"]),
    ]
    weights = {
        "start": np.array([8], np.int64),
        "end": np.array([-100], np.int64),
        "axes": np.array([1], np.int64),
        "steps": np.array([-2], np.int64),
        "pads": np.array([1, 0, 0, 2], np.int64),
        "shape": np.array([-1, 3], np.int64),
        "rows": np.array([4, 0, -1, 2], np.int64),
    }
    return models.model(nodes, {"x": (5, 4), "z": (5, 6)}, {"y": (4, 3)}, weights)


def arg_max() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
        node("Cast", ["i"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    return models.model(nodes, {"x": (6, 21)}, {"y": (6,)}, {})


def activations() -> onnx.ModelProto:
    kinds = ["Tanh", "Erf", "Softplus", "HardSwish", "Elu", "Gelu", "Round", "Sign", "Mish"]
    node = helper.make_node
    nodes = [node(kind, ["x"], [kind]) for kind in kinds]
    nodes.append(node("Concat", kinds, ["y"], axis=0))
    return models.model(nodes, {"x": (3, 50)}, {"y": (27, 50)}, {})


CASES: dict[str, Callable[[], onnx.ModelProto]] = {
    "block": models.block,
    "attention": models.attention,
    "convolutions": models.convolutions,
    "movement": mixed_movement,
    "softmax of rows": lambda: rows("Softmax", (3, 5, 37), (3, 5, 37), axis=-1),
    "softmax of columns": lambda: rows("Softmax", (4, 33, 6), (4, 33, 6), axis=1),
    "sum of all": lambda: rows("ReduceSum", (7, 9), (), keepdims=0),
    "largest position": arg_max,
    "activations": activations,
}


@pytest.mark.parametrize("name", list(CASES))
def test_kernels_compute_what_the_program_means(name: str) -> None:
    made = CASES[name]()
    feeds = models.feeds_of(made)
    program = program_of(made)
    wanted = reference.run(program, feeds)
    found = run_interpreted(draft(program, "float32"), feeds)
    for output in program.outputs:
        assert nmse(found[output], wanted[output]) < 1e-11, output


def test_half_precision_rounds_and_no_more() -> None:
    made = models.block()
    feeds = models.feeds_of(made)
    program = program_of(made)
    found = run_interpreted(draft(program, "float16"), feeds)
    assert 1e-12 < nmse(found["y"], reference.run(program, feeds)["y"]) < 1e-5


@pytest.mark.parametrize(
    "config",
    [
        Config(16, 16, 64, split=4),
        Config(16, 32, 32, split=1),
        Config(32, 16, 16, split=1, warps=8),
        Config(16, 64, 64, split=1),
    ],
    ids=lambda config: config.text,
)
def test_a_configuration_changes_no_result(config: Config) -> None:
    """Whole sums, sums split over warps, loops that end in the middle of a block."""
    made = models.model(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Relu", ["m"], ["y"]),
        ],
        {"x": (21, 64)},
        {"y": (21, 40)},
        {"w": models.random(64, 40, seed=3)},
    )
    feeds = models.feeds_of(made)
    program = program_of(made)
    plan = draft(program, "float32", chosen={"y": config})
    assert [stage.root for stage in group(program)] == ["y"]
    found = run_interpreted(plan, feeds)
    assert nmse(found["y"], reference.run(program, feeds)["y"]) < 1e-12


def test_not_a_number_and_infinity_pass_as_in_the_reference() -> None:
    made = models.block(rows=4)
    feeds = models.feeds_of(made)
    feeds["x"][1, 3], feeds["x"][2, 5] = np.nan, np.inf
    program = program_of(made)
    found = run_interpreted(draft(program, "float32"), feeds)["y"]
    wanted = reference.run(program, feeds)["y"]
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    assert np.isnan(wanted[1]).all()
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-5)
