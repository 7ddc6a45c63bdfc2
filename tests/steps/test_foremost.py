"""A group's time stands beside the operator that takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from planner.graph import infer
from planner.graph.build import build_graph
from planner.steps.foremost import foremost
from tests.graph.nasties import model, node, save, value, weight


def test_a_convolution_stands_for_what_it_runs_with(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1], name="transpose"),
        node("Conv", ["t", "w"], ["c"], name="conv"),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Transpose", ["r"], ["u"], perm=[0, 2, 1], name="back"),
        node("Reshape", ["u", "flat"], ["y"], name="view"),
    ]
    weights = [
        weight("w", np.ones((4, 4, 3), np.float32)),
        weight("flat", np.array([1, -1], np.int64)),
    ]
    made = model(nodes, [value("x", [1, 16, 4])], [value("y", None)], weights)
    infer.annotate(made)
    graph = build_graph(save(made, tmp_path))
    everything = ["transpose", "conv", "relu", "back", "view"]
    assert foremost(graph, [everything]) == {"conv"}
    assert foremost(graph, [["transpose"], ["conv", "relu"], ["view", "back"]]) == {
        "transpose",
        "conv",
        "back",
    }
