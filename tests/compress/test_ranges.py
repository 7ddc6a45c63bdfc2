"""Indices are drawn from all of what they select from, and from nothing beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from planner.compress.ranges import index_limits
from planner.compress.synthetic import synthetic_samples
from planner.graph.build import build_graph
from planner.spec.manifest import TensorSpec

NODES, EDGES, WIDTH = 40, 300, 6


def saved(folder: Path, nodes: list[NodeProto], edges: tuple[int, ...]) -> Path:
    """A model of features [NODES, WIDTH] and edges."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "zero": np.zeros((NODES, WIDTH), np.float32),
        "source": np.array(0), "target": np.array(1), "last": np.array([-1]),
        "wide": np.array([1, WIDTH]), "nodes": np.array(NODES), "none": np.array(0),
        "ones": np.ones((EDGES, WIDTH), np.float32),
        "outer": np.array([1, 3]), "regions": np.zeros((EDGES, 4), np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [NODES, WIDTH]),
            helper.make_tensor_value_info("edges", TensorProto.INT64, edges),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = folder / "model.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path
    )
    return path


def node(kind: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), [output], f"n_{output}", **attributes)


FEATURES = node("MatMul", "x w", "h")
ROW = node("Gather", "edges source", "from", axis=0)
CASES = {
    "rows of computed features": (
        (2, EDGES), [FEATURES, ROW, node("Gather", "h from", "y")], NODES,
    ),
    "columns of them": (
        (2, EDGES), [FEATURES, ROW, node("Gather", "h from", "y", axis=1)], WIDTH,
    ),
    "below zero counts from the end": (
        (2, EDGES),
        [
            FEATURES, ROW, node("Less", "from none", "is_less"), node("Add", "from nodes", "up"),
            node("Where", "is_less up from", "kept"), node("Gather", "h kept", "y"),
        ],
        NODES,
    ),
    "sums at nodes": (
        (EDGES,),
        [
            node("Unsqueeze", "edges last", "tall"), node("Expand", "tall wide", "all"),
            node("ScatterElements", "zero all ones", "y", axis=0),
        ],
        NODES,
    ),
    "sums at nodes by their numbers": (
        (EDGES,),
        [node("Unsqueeze", "edges last", "tall"), node("ScatterND", "zero tall ones", "y")],
        NODES,
    ),
    "one of each row": (
        (NODES, 1), [FEATURES, node("GatherND", "h edges", "y", batch_dims=1)], WIDTH,
    ),
    "images of regions": (
        (EDGES,),
        [node("Unsqueeze", "x outer", "images"), node("RoiAlign", "images regions edges", "y")],
        NODES,
    ),
    "both a node and a column": (
        (EDGES,),
        [FEATURES, node("Gather", "h edges", "g"), node("Gather", "g edges", "y", axis=1)],
        WIDTH,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_whole_range_and_no_more(tmp_path: Path, case: str) -> None:
    edges, nodes, limit = CASES[case]
    path = saved(tmp_path, nodes, edges)
    graph = build_graph(path)
    assert index_limits(graph) == {"edges": limit}
    specs = [
        TensorSpec(name="x", dtype="float32", shape=(NODES, WIDTH)),
        TensorSpec(name="edges", dtype="int64", shape=edges),
    ]
    feeds = synthetic_samples(specs, 1, graph=graph).feeds(0)
    assert set(feeds["edges"].ravel().tolist()) == set(range(limit))
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    session.run(None, feeds)


def test_what_is_not_known_before_limits_nothing(tmp_path: Path) -> None:
    """The features that are there depend on their values."""
    nodes = [
        node("NonZero", "x", "places"),
        node("Gather", "places edges", "picked", axis=1),
        helper.make_node("Cast", ["picked"], ["y"], to=TensorProto.FLOAT),
    ]
    path = saved(tmp_path, nodes, (EDGES,))
    assert index_limits(build_graph(path)) == {}
