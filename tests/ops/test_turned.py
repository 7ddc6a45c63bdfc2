"""Inputs that windows read across their order: copied once, beside what comes first."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.fuse.build import draft
from planner.fuse.greedy import group
from planner.graph.semantics import program_of
from planner.ops import reference, turned
from planner.ops.nest import Program
from tests.kernels.run import needs_triton, nmse, run_interpreted
from tests.ops import models

node = helper.make_node


def streaming(taps: int = 31, channels: int = 32, frames: int = 16) -> onnx.ModelProto:
    """A depthwise convolution over cached and new frames, as streaming models have it."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("Sigmoid", ["t"], ["s"]),
        node("Concat", ["cache", "s"], ["c"], axis=2),
        node("Conv", ["c", "w"], ["d"], group=channels),
        node("Relu", ["d"], ["e"]),
        node("Transpose", ["e"], ["y"], perm=[0, 2, 1]),
    ]
    weights = {"w": models.random(channels, 1, taps)}
    inputs = {"x": (1, frames, channels), "cache": (1, channels, taps - 1)}
    return models.model(nodes, inputs, {"y": (1, frames, channels)}, weights)


def feeds(program: Program) -> dict[str, np.ndarray]:
    """Seeded inputs."""
    return {name: models.random(*program.types[name].shape, seed=3) for name in program.inputs}


def test_the_copy_has_channels_last_and_changes_no_number() -> None:
    model = streaming()
    made, plain = program_of(model), program_of(model, as_written=True)
    assert made.types["cache" + turned.SUFFIX].shape == (1, 30, 32)
    assert made.inputs == plain.inputs
    readers = made.consumers["cache"]
    assert readers == ("cache" + turned.SUFFIX,)
    given = feeds(made)
    found, wanted = reference.run(made, given), reference.run(plain, given)
    np.testing.assert_array_equal(found["y"], wanted["y"])


def test_the_copy_waits_for_nothing_and_lengthens_no_path() -> None:
    stages = group(program_of(streaming()))
    copy = next(stage for stage in stages if stage.root.endswith(turned.SUFFIX))
    assert copy.reads == ("cache",)


@pytest.mark.parametrize(("taps", "channels"), [(3, 32), (15, 32)], ids=["window", "few taps"])
def test_what_does_not_pay_is_left(taps: int, channels: int) -> None:
    made = program_of(streaming(taps=taps, channels=channels, frames=16))
    assert not any(turned.is_turned(nest) for nest in made.nests)


@needs_triton
def test_kernels_compute_what_the_program_says() -> None:
    program = program_of(streaming())
    given = feeds(program)
    found, wanted = run_interpreted(draft(program, "float32"), given), reference.run(program, given)
    assert nmse(found["y"], wanted["y"]) < 1e-10
