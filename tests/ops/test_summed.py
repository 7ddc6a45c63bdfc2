"""Sums behind a flattened feature map, in the order in which the map lies in memory."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.fuse.build import draft
from planner.graph.semantics import program_of
from planner.ops import index, reference
from planner.ops.expr import loads
from planner.ops.nest import Program
from tests.kernels.run import needs_triton, nmse, run_interpreted
from tests.ops import models

node = helper.make_node


def flattened(
    channels: int = 16, height: int = 3, width: int = 5, *, shared: bool = False
) -> onnx.ModelProto:
    """A convolution, its map flattened, and a product: the end of most networks for images."""
    size = channels * height * width
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("Conv", ["n", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    outputs = {"y": (2, 24)}
    if shared:
        nodes.append(node("Neg", ["w"], ["z"]))
        outputs["z"] = (size, 24)
    weights = {"k": models.random(channels, 8, 3, 3), "w": models.random(size, 24)}
    return models.model(nodes, {"x": (2, 8, height, width)}, outputs, weights)


def sequence(channels: int = 16, features: int = 6) -> onnx.ModelProto:
    """The same along a sequence: channels and features of each frame become one row."""
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("Conv", ["n", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[0, 3, 1, 2]),
        node("Reshape", ["t", "s"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    weights = {
        "k": models.random(channels, 8, 3, 3),
        "w": models.random(channels * features, 24),
        "s": np.array([1, 7, channels * features], np.int64),
    }
    return models.model(nodes, {"x": (1, 8, features, 7)}, {"y": (1, 7, 24)}, weights)


def feeds(program: Program) -> dict[str, np.ndarray]:
    """Seeded inputs."""
    return {name: models.random(*program.types[name].shape, seed=3) for name in program.inputs}


def strides(program: Program, root: str) -> list[int]:
    """How far neighbours of the sum lie apart in what is no weight, slowest first."""
    nest = program.by_name[root]
    (load,) = (one for one in loads(nest.body) if one.tensor not in program.constants)
    where = dict(index.flatten(load.index, program.types[load.tensor].shape).terms)
    return [where[var] for var in nest.reduce_axes]


@pytest.mark.parametrize("model", [flattened(), flattened(channels=8, width=1), sequence()])
def test_the_sum_runs_through_memory_and_means_the_same(model: onnx.ModelProto) -> None:
    made, plain = program_of(model), program_of(model, as_written=True)
    root = made.nests[-1].name
    found = strides(made, root)
    assert found == sorted(found, reverse=True)
    assert found[-1] == 1
    given = feeds(made)
    a, b = reference.run(made, given), reference.run(plain, given)
    assert nmse(a["y"], b["y"]) < 1e-12


def test_rows_of_weights_follow_and_are_read_in_a_row() -> None:
    made, plain = program_of(flattened()), program_of(flattened(), as_written=True)
    (name,) = (n for n, value in made.constants.items() if value.shape == (240, 24))
    assert not np.array_equal(made.constants[name], plain.constants[name])
    rows = (sorted(map(tuple, program.constants[name])) for program in (made, plain))
    assert next(rows) == next(rows)


def test_weights_that_others_read_stay_as_they_are() -> None:
    model = flattened(shared=True)
    made, plain = program_of(model), program_of(model, as_written=True)
    for name, value in plain.constants.items():
        np.testing.assert_array_equal(made.constants[name], value)
    given = feeds(made)
    a, b = reference.run(made, given), reference.run(plain, given)
    for name in ("y", "z"):
        assert nmse(a[name], b[name]) < 1e-12


def test_positions_that_only_an_index_reads_stay_as_they_are() -> None:
    """Which rows of an input the sum takes is a constant too, but read within an index."""
    size = 16 * 3 * 5
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("Conv", ["n", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("Gather", ["v", "i"], ["w"], axis=0),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    picked = np.random.default_rng(0).permutation(300)[:size].astype(np.int64)
    weights = {"k": models.random(16, 8, 3, 3), "i": picked}
    model = models.model(nodes, {"x": (2, 8, 3, 5), "v": (300, 24)}, {"y": (2, 24)}, weights)
    made, plain = program_of(model), program_of(model, as_written=True)
    given = feeds(made)
    assert nmse(reference.run(made, given)["y"], reference.run(plain, given)["y"]) < 1e-12


def test_few_channels_are_left() -> None:
    model = flattened(channels=4)
    made, plain = program_of(model), program_of(model, as_written=True)
    assert [nest.body.text for nest in made.nests] == [nest.body.text for nest in plain.nests]


@needs_triton
def test_kernels_compute_what_the_program_says() -> None:
    program = program_of(sequence())
    given = feeds(program)
    found, wanted = run_interpreted(draft(program, "float32"), given), reference.run(program, given)
    assert nmse(found["y"], wanted["y"]) < 1e-10
