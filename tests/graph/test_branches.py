"""Conditions that are constants: the branch that is taken takes the operator's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper

from planner.graph import structure
from planner.graph.branches import inline_known
from planner.graph.equality import run_with_onnxruntime
from planner.graph.slim import EFFORTS, slim
from tests.graph.nasties import model, node, save, value, weight

_X = np.linspace(-2, 2, 4, dtype=np.float32)[None]


def _branch(*nodes: onnx.NodeProto, output: str = "t") -> GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [value(output)])


def _if(condition: bool, then: GraphProto, other: GraphProto) -> ModelProto:
    made = node("If", ["flag"], ["y"], then_branch=then, else_branch=other)
    return model([made], [value("x")], [value("y")], [weight("flag", np.array(condition))])


@pytest.mark.parametrize("condition", [True, False])
def test_the_branch_that_is_taken_replaces_the_operator(condition: bool, tmp_path: Path) -> None:
    then = _branch(node("Neg", ["x"], ["t"]))
    then.initializer.append(weight("unused", np.ones(1, np.float32)))
    made = _if(condition, then, _branch(node("Abs", ["x"], ["t"])))
    (expected,) = run_with_onnxruntime(save(made, tmp_path), {"x": _X}, 1)
    assert inline_known(made.graph) == 1
    structure.check_names(made.graph)
    onnx.checker.check_model(made, full_check=True)
    (found,) = run_with_onnxruntime(save(made, tmp_path, "after.onnx"), {"x": _X}, 1)
    np.testing.assert_array_equal(expected["y"], found["y"])


def test_names_inside_do_not_meet_those_outside(tmp_path: Path) -> None:
    then = _branch(node("Neg", ["x"], ["t"]))
    made = _if(True, then, _branch(node("Abs", ["x"], ["t"])))
    made.graph.node.append(node("Relu", ["x"], ["t"]))
    made.graph.output.append(value("t"))
    inline_known(made.graph)
    structure.check_names(made.graph)
    (found,) = run_with_onnxruntime(save(made, tmp_path), {"x": _X}, 1)
    np.testing.assert_array_equal(found["y"], -_X)
    np.testing.assert_array_equal(found["t"], np.maximum(_X, 0))


def test_branches_in_branches_go_in_rounds(tmp_path: Path) -> None:
    """The inner condition asks for a size that only the outer branch makes known."""
    inner = node(
        "If", ["is_four"], ["t"],
        then_branch=_branch(node("Neg", ["x"], ["u"]), output="u"),
        else_branch=_branch(node("Abs", ["x"], ["v"]), output="v"),
    )  # fmt: skip
    outer = _branch(
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["n"]),
        node("Equal", ["n", "four"], ["is_four"]),
        inner,
    )
    made = _if(True, outer, _branch(node("Abs", ["x"], ["t"])))
    made.graph.initializer.extend([weight("one", np.array(1)), weight("four", np.array(4))])
    path = save(made, tmp_path)
    slim(path, tmp_path / "slim.onnx", EFFORTS[0])
    assert [one.op_type for one in onnx.load(tmp_path / "slim.onnx").graph.node] == ["Neg"]


def test_a_condition_that_is_fed_stays(tmp_path: Path) -> None:
    made = _if(True, _branch(node("Neg", ["x"], ["t"])), _branch(node("Abs", ["x"], ["t"])))
    del made.graph.initializer[:]
    made.graph.input.append(value("flag", [], TensorProto.BOOL))
    assert inline_known(made.graph) == 0
    assert len(made.graph.node) == 1


def test_what_a_branch_hands_through_is_copied(tmp_path: Path) -> None:
    """Its output may be a constant of its own."""
    then = helper.make_graph([], "b", [], [value("c")], [weight("c", _X)])
    made = _if(True, then, _branch(node("Abs", ["x"], ["t"])))
    inline_known(made.graph)
    (found,) = run_with_onnxruntime(save(made, tmp_path), {"x": _X}, 1)
    np.testing.assert_array_equal(found["y"], _X)
