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

from benchmarks.small import sequence
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


def gated(rows: int, depth: int, columns: int) -> onnx.ModelProto:
    """Two products of the same rows, one through a sigmoid on the other."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["x", "v"], ["b"]),
        node("Sigmoid", ["a"], ["s"]),
        node("Mul", ["s", "b"], ["y"]),
    ]
    weights = {n: models.random(depth, columns, seed=i) for i, n in enumerate("wv")}
    return models.model(nodes, {"x": (rows, depth)}, {"y": (rows, columns)}, weights)


BESIDE = [
    Config(16, 16, 64, split=4),
    Config(16, 32, 32),
    Config(16, 16, 64),
    Config(32, 16, 16, warps=8),
]


@pytest.mark.parametrize("config", BESIDE, ids=lambda config: config.text)
def test_products_beside_each_other_share_a_configuration(config: Config) -> None:
    made = gated(21, 64, 40)
    feeds, program = models.feeds_of(made), program_of(made)
    plan = draft(program, "float32", chosen={"y": config})
    (kernel,) = plan.kernels
    is_looped = config.depth < 64
    assert kernel.text.count("for at") == is_looped, "one loop for both"
    assert kernel.text.count("tl.dot(") == 2
    reads = [line for line in kernel.text.splitlines() if "tl.load(p0" in line]
    assert len(reads) == 1 or not is_looped, "a loop loads the rows once"
    found = run_interpreted(plan, feeds)
    assert nmse(found["y"], reference.run(program, feeds)["y"]) < 1e-12


@pytest.mark.parametrize("config", BESIDE[:3], ids=lambda config: config.text)
def test_gates_of_several_sequences_are_products_beside_each_other(config: Config) -> None:
    """Steps whose input is a sequence of another recurrence: x W + h R in every gate."""
    made = sequence.lstm_stack("float32", layers=2, steps=3, width=64, batch=3)
    feeds, program = models.feeds_of(made), program_of(made)
    cells = {stage.root: config for stage in group(program) if stage.also}
    plan = draft(program, "float32", chosen=cells)
    sums = max(kernel.text.count("tl.sum(") for kernel in plan.kernels)
    assert (sums > 0) == (config.split > 1)
    found = run_interpreted(plan, feeds)
    assert nmse(found["y"], reference.run(program, feeds)["y"]) < 1e-11


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_inputs_of_all_steps_are_one_product(operator: str) -> None:
    steps, batch, inputs, hidden = 9, 2, 12, 16
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    more: dict[str, Any] = {"linear_before_reset": 1} if operator == "GRU" else {}
    node = helper.make_node(
        operator,
        ["x", "w", "r", "b"],
        ["y"],
        hidden_size=hidden,
        direction="bidirectional",
        **more,
    )
    weights = {
        "w": models.random(2, gates * hidden, inputs),
        "r": models.random(2, gates * hidden, hidden, seed=1),
        "b": models.random(2, 2 * gates * hidden, seed=2),
    }
    shape = {"x": (steps, batch, inputs)}
    made = models.model([node], shape, {"y": (steps, 2, batch, hidden)}, weights)
    feeds, program = models.feeds_of(made), program_of(made)
    assert sum("/xs" in nest.name for nest in program.nests) == 2, "one a direction"
    found = run_interpreted(draft(program, "float32"), feeds)
    assert nmse(found["y"], reference.run(program, feeds)["y"]) < 1e-11


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


def test_sums_that_no_narrow_number_holds_keep_their_means_and_variances() -> None:
    """45 x 60 values of 30 and more: their sum is above 65,504, that of their squares far more."""
    node = helper.make_node
    nodes = [
        node("Abs", ["x"], ["a"]),
        node("GlobalAveragePool", ["a"], ["m"]),
        node("InstanceNormalization", ["a", "g", "b"], ["n"]),
        node("Sub", ["n", "m"], ["y"]),
    ]
    weights = {"g": np.ones(2, np.float32), "b": np.zeros(2, np.float32)}
    made = models.model(nodes, {"x": (1, 2, 45, 60)}, {"y": (1, 2, 45, 60)}, weights)
    feeds, program = {"x": models.random(1, 2, 45, 60, scale=40) + 60}, program_of(made)
    found = run_interpreted(draft(program, "float16"), feeds)["y"]
    assert nmse(found, reference.run(program, feeds)["y"]) < 1e-5


def test_whole_numbers_of_more_than_32_bits_stay_what_they_are() -> None:
    add = helper.make_node("Add", ["x", "w"], ["y"])
    given, wide = np.array([3, -5, 2**33, 7]), np.array([2**40, 1, -(2**35), 3])
    ports = [helper.make_tensor_value_info(n, onnx.TensorProto.INT64, (4,)) for n in "xy"]
    weight = onnx.numpy_helper.from_array(wide, "w")
    made = helper.make_model(helper.make_graph([add], "wide", ports[:1], ports[1:], [weight]))
    found = run_interpreted(draft(program_of(made), "float16"), {"x": given})["y"]
    np.testing.assert_array_equal(found, given + wide)


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh"])
def test_activations_hold_to_the_ends_of_the_numbers(op: str) -> None:
    ends = [0.0, 1e-8, -1e-8, 3e38, -3e38, np.inf, -np.inf, np.nan]
    x = np.array([*np.linspace(-100, 100, 504), *ends], np.float32)
    program = program_of(rows(op, x.shape, x.shape))
    found = run_interpreted(draft(program, "float32"), {"x": x})["y"].astype(np.float64)
    wanted = reference.run(program, {"x": x})["y"].astype(np.float64)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-37)
