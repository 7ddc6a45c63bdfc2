"""Branches of conditions that are fed are simplified too, if they answer as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper

from planner.graph import infer
from planner.graph.bodies import simplify_branches
from planner.graph.equality import run_with_onnxruntime
from planner.graph.slim import EFFORTS, slim
from tests.graph.nasties import model, node, save, value, weight

_X = np.linspace(-2, 2, 4, dtype=np.float32)[None]


def _branch(*nodes: onnx.NodeProto, output: str) -> GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [value(output)])


def _asks_for_its_size(kind: str) -> GraphProto:
    """A branch whose own condition is known once the shape of x is."""
    inner = node(
        "If", ["is_four"], ["t"],
        then_branch=_branch(node(kind, ["x"], ["u"]), output="u"),
        else_branch=_branch(node("Abs", ["x"], ["v"]), output="v"),
    )  # fmt: skip
    return _branch(
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["n"]),
        node("Equal", ["n", "four"], ["is_four"]),
        inner,
        output="t",
    )


def _model(then: GraphProto, other: GraphProto) -> ModelProto:
    return model(
        [node("If", ["flag"], ["y"], then_branch=then, else_branch=other)],
        [value("x"), value("flag", [], TensorProto.BOOL)],
        [value("y")],
        [weight("one", np.array(1)), weight("four", np.array(4))],
    )


def _bodies(path: Path) -> dict[str, list[str]]:
    (found,) = onnx.load(path).graph.node
    return {a.name: [one.op_type for one in a.g.node] for a in found.attribute}


@pytest.mark.parametrize("flag", [True, False])
def test_both_branches_become_what_they_compute(flag: bool, tmp_path: Path) -> None:
    path = save(_model(_asks_for_its_size("Neg"), _asks_for_its_size("Exp")), tmp_path)
    out = tmp_path / "slim.onnx"
    slim(path, out, EFFORTS[0])
    assert _bodies(out) == {"then_branch": ["Neg"], "else_branch": ["Exp"]}
    feeds = {"x": _X, "flag": np.array(flag)}
    (before,), (after,) = (run_with_onnxruntime(one, feeds, 1) for one in (path, out))
    np.testing.assert_array_equal(before["y"], after["y"])


def test_shapes_that_the_file_leaves_open_may_be_known(tmp_path: Path) -> None:
    """And a branch that does not fit them stays as it is."""
    unfit = _branch(
        node("Reshape", ["x", "three"], ["r"]),
        node("Identity", ["r"], ["i"]),
        node("Neg", ["i"], ["t"]),
        output="t",
    )
    made = _model(_asks_for_its_size("Neg"), unfit)
    made.graph.initializer.append(weight("three", np.array([1, 3])))
    del made.graph.input[0].type.tensor_type.shape.dim[:]
    made.graph.input[0].type.tensor_type.shape.dim.add(dim_param="a")
    made.graph.input[0].type.tensor_type.shape.dim.add(dim_param="b")
    for attribute in made.graph.node[0].attribute:
        attribute.g.output[0].type.tensor_type.ClearField("shape")
    made.graph.output[0].type.tensor_type.ClearField("shape")
    path, out = save(made, tmp_path), tmp_path / "slim.onnx"
    slim(path, out, EFFORTS[0], {"x": (1, 4)})
    found = _bodies(out)
    assert found["then_branch"] == ["Neg"]
    assert found["else_branch"] == ["Reshape", "Identity", "Neg"]
    feeds = {"x": _X, "flag": np.array(True)}
    (after,) = run_with_onnxruntime(out, feeds, 1)
    np.testing.assert_array_equal(after["y"], -_X)


def test_a_simplifier_that_lies_changes_nothing(tmp_path: Path) -> None:
    made = _model(_asks_for_its_size("Neg"), _asks_for_its_size("Exp"))
    infer.annotate(made)

    def lie(alone: ModelProto) -> ModelProto:
        del alone.graph.node[:]
        name = alone.graph.output[0].name
        alone.graph.node.append(helper.make_node("Tanh", ["x"], [name]))
        return alone

    before = made.SerializeToString()
    assert simplify_branches(made, lie, {}, tmp_path) == 0
    assert made.SerializeToString() == before
    assert list(tmp_path.iterdir()) == []
