"""Which outputs are drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from planner.graph.draws import drawn_outputs

_FLOAT = TensorProto.FLOAT


def _value(name: str, kind: int = _FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, None)


def _saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    outputs: list[str],
    functions: list[onnx.FunctionProto] | None = None,
) -> Path:
    graph = helper.make_graph(nodes, "g", [_value("x")], [_value(name) for name in outputs])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=functions or []), path)
    return path


def test_what_depends_on_a_draw_is_drawn_and_nothing_else(tmp_path: Path) -> None:
    """Whatever two runs say: a sampler of one action always draws the same."""
    nodes = [
        helper.make_node("Log", ["x"], ["l"]),
        helper.make_node("Multinomial", ["l"], ["action"]),
        helper.make_node("Cast", ["action"], ["as_float"], to=_FLOAT),
        helper.make_node("Shape", ["action"], ["shape"]),
        helper.make_node("Neg", ["l"], ["clean"]),
    ]
    path = _saved(tmp_path / "m.onnx", nodes, ["clean", "as_float", "shape", "action"])
    assert drawn_outputs(path) == ("as_float", "action")


def test_a_draw_inside_a_branch_or_a_function_is_found(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["x"], ["b"])
        return helper.make_graph([node], op, [], [_value("b")])

    inner = helper.make_function(
        "own", "Noise", ["a"], ["b"], [helper.make_node("RandomNormalLike", ["a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    outer = helper.make_function(
        "own", "Outer", ["a"], ["b"], [helper.make_node("Noise", ["a"], ["b"], domain="own")],
        [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )  # fmt: skip
    yes = helper.make_node(
        "Constant", [], ["yes"], value=onnx.numpy_helper.from_array(np.array(True))
    )
    both = {"then_branch": branch("RandomNormalLike"), "else_branch": branch("Neg")}
    none = {"then_branch": branch("Abs"), "else_branch": branch("Neg")}
    nodes = [
        yes,
        helper.make_node("If", ["yes"], ["maybe"], **both),
        helper.make_node("If", ["yes"], ["never"], **none),
        helper.make_node("Outer", ["x"], ["called"], domain="own"),
    ]
    path = _saved(tmp_path / "m.onnx", nodes, ["maybe", "never", "called"], [inner, outer])
    assert drawn_outputs(path) == ("maybe", "called")


def test_a_branch_that_reads_a_draw_is_drawn(tmp_path: Path) -> None:
    reads = helper.make_graph([helper.make_node("Neg", ["r"], ["b"])], "b", [], [_value("b")])
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["r"], seed=1.0),
        helper.make_node("Cast", ["x"], ["yes"], to=TensorProto.BOOL),
        helper.make_node("If", ["yes"], ["y"], then_branch=reads, else_branch=reads),
    ]
    assert drawn_outputs(_saved(tmp_path / "m.onnx", nodes, ["y"])) == ("y",)
