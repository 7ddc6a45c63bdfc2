"""Windows with many taps along one axis, and sums over places that lie apart, in each tiling."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.fuse.build import draft
from planner.fuse.greedy import group
from planner.graph.semantics import program_of
from planner.kernels.configs import candidates, default_config
from planner.kernels.stage import Config, Kind
from planner.kernels.tiling import Shape, shape_of
from planner.ops import reference
from planner.ops.index import Var
from tests.kernels.run import needs_triton, nmse, run_interpreted
from tests.ops import models


def long_window(taps: int, channels: int = 6, places: int = 11) -> onnx.ModelProto:
    """A depthwise convolution along one axis, padded on both sides, with an activation."""
    nodes = [
        helper.make_node(
            "Conv", ["x", "w"], ["c"], group=channels, pads=[taps // 2, (taps - 1) // 2]
        ),
        helper.make_node("Sigmoid", ["c"], ["y"]),
    ]
    weights = {"w": models.random(channels, 1, taps, seed=1)}
    shape = (1, channels, places)
    return models.model(nodes, {"x": shape}, {"y": shape}, weights)


def means(places: int = 36, channels: int = 40) -> onnx.ModelProto:
    """The mean of each channel, neighbours of which lie side by side."""
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    axes = {"axes": np.array([1], np.int64)}
    return models.model([node], {"x": (1, places, channels)}, {"y": (1, channels)}, axes)


@needs_triton
@pytest.mark.parametrize(("taps", "depth"), [(13, 16), (13, 1), (31, 32), (9, 1)])
def test_taps_are_an_axis_or_written_out(taps: int, depth: int) -> None:
    program = program_of(long_window(taps))
    (stage,) = group(program)
    shape = shape_of(program, stage)
    assert (shape.kind, shape.is_line) == (Kind.FLAT, taps > 9)
    assert default_config(shape).depth == (1 if taps == 9 else 16 if taps == 13 else 32)
    chosen = {stage.root: Config(32, 1, depth, warps=1)}
    plan = draft(program, "float32", chosen=chosen)
    assert ("tl.sum(" in plan.kernels[0].text) is (depth > 1)
    feeds = {"x": models.random(1, 6, 11)}
    wanted = reference.run(program, feeds)
    assert nmse(run_interpreted(plan, feeds)["y"], wanted["y"]) < 1e-9


@needs_triton
def test_sums_over_places_that_lie_apart_take_several_channels() -> None:
    program = program_of(means())
    shapes = {stage.root: shape_of(program, stage) for stage in group(program)}
    (root,) = [name for name, shape in shapes.items() if shape.is_apart]
    assert default_config(shapes[root]).columns == 1
    feeds = {"x": models.random(1, 36, 40)}
    wanted = reference.run(program, feeds)["y"]
    for config in (default_config(shapes[root]), Config(8, 1, 1, warps=2)):
        plan = draft(program, "float32", chosen={root: config})
        assert nmse(run_interpreted(plan, feeds)["y"], wanted) < 1e-9


@pytest.mark.parametrize(
    ("channels", "places", "rows", "warps"),
    [(1152, 49, 32, 1), (480, 196, 8, 1), (144, 3136, 4, 4), (96, 3136, 2, 2), (32, 12544, 1, 4)],
)
def test_rows_that_lie_apart_are_taken_together(
    channels: int, places: int, rows: int, warps: int
) -> None:
    """Measured on an H200: of the sums of efficientnet-b0 1.1 to 2.7 times as fast as a row a
    block."""
    shape = Shape(Kind.ROWS, None, {}, (), (Var("c", channels),), (), places, is_chain=False)
    apart = Shape(
        Kind.ROWS, None, {}, (), (Var("c", channels),), (), places, is_chain=False, is_apart=True
    )
    found = default_config(apart)
    assert (found.rows, found.warps) == (rows, warps)
    assert default_config(shape) != found
    assert len(set(candidates(apart))) == len(candidates(apart))


def convolution(channels: int, made: int = 16, places: int = 9) -> onnx.ModelProto:
    """Three taps along one axis over all channels of what a stage in front makes."""
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["y"], pads=[1, 1]),
    ]
    weights = {"w": models.random(made, channels, 3, seed=2, scale=0.1)}
    given, answer = (1, channels, places), (1, made, places)
    return models.model(nodes, {"x": given}, {"y": answer}, weights)


@needs_triton
@pytest.mark.parametrize(("channels", "depth", "steps"), [(12, 16, 3), (13, 32, 2), (16, 16, 3)])
def test_the_run_of_a_tap_is_padded_or_gathered(channels: int, depth: int, steps: int) -> None:
    """Steps of a tap each, the run masked where it is shorter; else any depth over all taps."""
    program = program_of(convolution(channels))
    (root,) = [stage.root for stage in group(program) if shape_of(program, stage).run == channels]
    plan = draft(program, "float32", chosen={root: Config(16, 16, depth)})
    (text,) = [item.text for item in plan.kernels if "tl.dot(" in item.text]
    end = int(re.findall(r"tl.range\(0, (\d+), ", text)[0])
    assert -(-end // depth) == steps
    feeds = {"x": models.random(1, channels, 9)}
    wanted = reference.run(program, feeds)
    assert nmse(run_interpreted(plan, feeds)["y"], wanted["y"]) < 1e-9
