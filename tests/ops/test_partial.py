"""Sums in parts: the same numbers, fewer values a block, no stage more where rows follow."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.fuse.build import draft
from planner.fuse.candidates import explore
from planner.fuse.greedy import group
from planner.graph.semantics import program_of
from planner.kernels.compile import compile_kernel
from planner.ops import partial, reference
from tests.kernels.run import needs_triton, nmse, run_interpreted
from tests.ops import models

node = helper.make_node
Build = Callable[[], onnx.ModelProto]


def residual(rows: int = 96, width: int = 256, hidden: int = 1024) -> onnx.ModelProto:
    """A product with a long sum beside a residual, both read behind a normalisation and past it."""
    nodes = [
        node("MatMul", ["x", "w"], ["p"]),
        node("Add", ["p", "b"], ["q"]),
        node("Add", ["q", "r"], ["h"]),
        node("LayerNormalization", ["h", "scale", "shift"], ["n"], axis=-1),
        node("Add", ["n", "h"], ["y"]),
        node("MatMul", ["n", "v"], ["z"]),
    ]
    weights = {
        "w": models.random(hidden, width, scale=hidden**-0.5),
        "b": models.random(width, seed=1),
        "scale": models.random(width, seed=2),
        "shift": models.random(width, seed=3),
        "v": models.random(width, 16, seed=4, scale=width**-0.5),
    }
    inputs = {"x": (rows, hidden), "r": (rows, width)}
    return models.model(nodes, inputs, {"y": (rows, width), "z": (rows, 16)}, weights)


def convolution(channels: int = 256) -> onnx.ModelProto:
    """A 3 x 3 window over many channels; Relu behind."""
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Conv", ["a", "w", "b"], ["c"], pads=[1] * 4),
        node("Relu", ["c"], ["d"]),
        node("Add", ["d", "d"], ["y"]),
    ]
    weights = {
        "w": models.random(32, channels, 3, 3, scale=(9 * channels) ** -0.5),
        "b": models.random(32, seed=1),
    }
    return models.model(nodes, {"x": (1, channels, 6, 6)}, {"y": (1, 32, 6, 6)}, weights)


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Seeded inputs."""
    program = program_of(model)
    return {
        name: models.random(*program.types[name].shape, seed=position + 7)
        for position, name in enumerate(program.inputs)
    }


@pytest.mark.parametrize("build", [residual, convolution])
def test_parts_add_up_to_the_whole(build: Build) -> None:
    model = build()
    cut, whole = program_of(model), program_of(model, as_written=True)
    made = [name for name in cut.by_name if name.endswith(partial.SUFFIX)]
    assert made
    assert not any(name.endswith(partial.SUFFIX) for name in whole.by_name)
    feeds = feeds_of(model)
    found, wanted = reference.run(cut, feeds), reference.run(whole, feeds)
    for name in cut.outputs:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-9)


def test_taps_are_cut_and_runs_stay_whole() -> None:
    program = program_of(convolution())
    (made,) = (nest for nest in program.nests if nest.name.endswith(partial.SUFFIX))
    assert made.type.shape[0] == 3
    assert made.reduce_axes[-1].extent == 256
    assert math.prod(var.extent for var in made.reduce_axes) == 3 * 256


def test_adding_is_no_stage_of_its_own_where_rows_follow() -> None:
    model = residual()
    cut, whole = program_of(model), program_of(model, as_written=True)
    stages = group(cut)
    assert [stage.root.endswith(partial.SUFFIX) for stage in stages].count(True) == 1
    adding = next(s for s in stages if any(partial.is_total(cut.by_name[n]) for n in s.internal))
    assert {"h", "n"} & {adding.root, *adding.also} or adding.root == "y"
    assert len(stages) <= len(group(whole)) + 1
    assert explore(cut).heavy == frozenset(
        name + partial.SUFFIX if name + partial.SUFFIX in cut.by_name else name
        for name in explore(whole).heavy
    )


@pytest.mark.parametrize(
    ("rows", "width", "hidden"),
    [(32, 256, 512), (1024, 1024, 4096), (1, 4096, 4096), (8, 256, 1024)],
    ids=["short sum", "many results", "vector", "few rows"],
)
def test_what_gains_little_stays_whole(rows: int, width: int, hidden: int) -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    weights = {"w": np.zeros((hidden, width), np.float32)}
    model = models.model(nodes, {"x": (rows, hidden)}, {"y": (rows, width)}, weights)
    assert partial.in_parts(program_of(model, as_written=True))[1] == {}


@needs_triton
@pytest.mark.parametrize("build", [residual, convolution])
@pytest.mark.parametrize("number_format", ["float32", "float16"])
def test_kernels_compute_what_the_program_says(build: Build, number_format: str) -> None:
    model = build()
    program = program_of(model)
    plan = draft(program, number_format)
    feeds = feeds_of(model)
    found, wanted = run_interpreted(plan, feeds), reference.run(program, feeds)
    limit = 1e-10 if number_format == "float32" else 3e-6
    assert all(nmse(found[name], wanted[name]) < limit for name in program.outputs)


@needs_triton
@pytest.mark.parametrize("architecture", [80, 89, 90])
def test_nothing_spills(architecture: int) -> None:
    plan = draft(program_of(residual()), "float16")
    for item in plan.kernels:
        made = compile_kernel(item, architecture)
        assert made.resources.stack_size_bytes == 0
        assert made.waits == (architecture >= 90)
