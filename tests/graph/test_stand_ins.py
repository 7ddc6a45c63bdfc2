"""Shapes behind operators that onnx does not infer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.graph.semantics import program_of
from planner.graph.stand_ins import inferred, with_stand_ins
from planner.ops import reference
from tests.ops.models import random

_MICROSOFT = "com.microsoft"


def _model(nodes: list[onnx.NodeProto], weights: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """Nodes from `x` (2 x 6 x 8) to `y`, of which nothing is declared."""
    given = enumerate(weights.items())
    stored = [numpy_helper.from_array(random(*s, seed=i), n) for i, (n, s) in given]
    graph = helper.make_graph(
        nodes,
        "unknown",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 6, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        stored,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(_MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _of(kind: str) -> onnx.ModelProto:
    given: dict[str, tuple[int, ...]] = {}
    names, more = ["x"], dict[str, Any]()
    if kind == "GroupNormalization":
        given, more = {"g": (6,), "b": (6,)}, {"num_groups": 3}
    elif kind == "SkipLayerNormalization":
        given, names = {"g": (8,), "b": (8,)}, ["x", "x"]
    elif kind in ("BiasGelu", "FastGelu"):
        given = {"b": (8,)}
    elif kind == "FusedMatMul":
        names, more = ["x", "x"], {"transB": 1, "alpha": 0.5}
    domain = "" if kind == "GroupNormalization" else _MICROSOFT
    node = helper.make_node(kind, [*names, *given], ["h"], "odd", domain=domain, **more)
    behind = helper.make_node("ReduceMax", ["h", "axes"], ["m"])
    tail = helper.make_node("Sub", ["h", "m"], ["y"])
    made = _model([node, behind, tail], given)
    made.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    return made


KINDS = ("GroupNormalization", "SkipLayerNormalization", "FusedMatMul")
GELUS = ("Gelu", "BiasGelu", "FastGelu", "QuickGelu")


@pytest.mark.parametrize("kind", [*KINDS, *GELUS])
def test_what_stands_behind_it_has_a_shape_and_is_computed(kind: str) -> None:
    model = _of(kind)
    nodes = [node.SerializeToString() for node in model.graph.node]
    found = inferred(model)
    assert [node.SerializeToString() for node in found.graph.node] == nodes
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"x": random(2, 6, 8, seed=9)}
    (wanted,) = session.run(None, feeds)
    (port,) = found.graph.output
    assert tuple(dim.dim_value for dim in port.type.tensor_type.shape.dim) == wanted.shape
    made = reference.run(program_of(model), feeds)["y"]
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)


def test_a_model_without_them_is_not_copied() -> None:
    model = _model([helper.make_node("Relu", ["x"], ["y"])], {})
    assert with_stand_ins(model) is model
