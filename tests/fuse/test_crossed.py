"""Statistics along one axis of what was normalised along another are computed once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.fuse.build import draft
from planner.fuse.greedy import group
from planner.graph.semantics import program_of
from planner.ops import reference
from tests.kernels.run import needs_triton, nmse, run_interpreted
from tests.ops import models


def _model(rows: int, columns: int) -> onnx.ModelProto:
    """Softmax of rows, then of columns, then the mean of columns."""
    node = helper.make_node
    nodes = [
        node("Softmax", ["x"], ["a"], axis=1),
        node("Softmax", ["a"], ["b"], axis=0),
        node("ReduceMean", ["b", "first"], ["y"], keepdims=0),
    ]
    weights = {"first": np.array([0])}
    return models.model(nodes, {"x": (rows, columns)}, {"y": (columns,)}, weights)


@pytest.mark.parametrize(("rows", "columns", "is_apart"), [(60, 70, True), (20, 30, False)])
def test_a_statistic_that_every_value_of_a_sum_asks_for_is_a_stage(
    rows: int, columns: int, is_apart: bool
) -> None:
    program = program_of(_model(rows, columns))
    nests = program.by_name
    stages = group(program)
    along_rows = {n.name for n in program.nests if n.reduce_axes and n.type.shape == (rows, 1)}
    assert len(along_rows) == 2
    assert any(stage.root in along_rows for stage in stages) is is_apart
    for stage in stages:
        sizes = [nests[n].reduce_axes[0].extent for n in stage.internal if nests[n].reduce_axes]
        assert not (is_apart and {rows, columns} <= set(sizes))


@needs_triton
def test_it_computes_the_same() -> None:
    made = _model(60, 70)
    feeds, program = models.feeds_of(made), program_of(made)
    found = run_interpreted(draft(program, "float32"), feeds)["y"]
    assert nmse(found, reference.run(program, feeds)["y"]) < 1e-11
