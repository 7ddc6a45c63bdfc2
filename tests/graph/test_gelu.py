"""The gelu by tanh in any spelling: recognised by what it computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto

from tests.graph.nasties import model, node, value, weight
from tests.graph.rewritten import rewritten

_SLOPE = float(np.sqrt(2 / np.pi))


class _Spelling:
    """Operators, made one after the other, with constants of their own."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def number(self, value_: float) -> str:
        name = f"k{len(self.weights)}"
        self.weights.append(weight(name, np.array(value_, np.float32)))
        return name

    def step(self, kind: str, *inputs: str | float, swapped: bool = False) -> str:
        names = [one if isinstance(one, str) else self.number(one) for one in inputs]
        made = f"t{len(self.nodes)}"
        self.nodes.append(node(kind, names[::-1] if swapped else names, [made]))
        return made

    def rewritten(self, folder: Path) -> list[str]:
        """Operators of the rewritten model, which is seen to answer as before."""
        self.nodes[-1].output[0] = "y"
        made = model(
            self.nodes, [value("x", [3, 40])], [value("y", [3, 40])], self.weights, opset=15
        )
        feeds = {"x": np.linspace(-6, 6, 120, dtype=np.float32).reshape(3, 40)}
        return rewritten(made, folder, feeds, 1e-10)


def _spelt(
    x_name: str,
    order: list[bool],
    *,
    cubic: float = 0.044715,
    half: int = 0,
    factored: bool = False,
) -> _Spelling:
    """The gelu of a tensor, with operands swapped as `order` says and the half at one of three
    places."""
    made, turn = _Spelling(), iter(order)
    x = made.step("Abs", x_name)  # another operator: what is activated is no input
    if factored:  # x (1 + c x²)
        square = made.step("Mul", made.step("Mul", x, x), cubic, swapped=next(turn))
        inner = made.step("Mul", x, made.step("Add", square, 1.0), swapped=next(turn))
    else:
        cubed = made.step("Mul", made.step("Mul", x, x), x, swapped=next(turn))
        inner = made.step("Add", x, made.step("Mul", cubed, cubic), swapped=next(turn))
    raised = made.step("Tanh", made.step("Mul", inner, _SLOPE, swapped=next(turn)))
    raised = made.step("Add", raised, 1.0, swapped=next(turn))
    if half == 0:
        made.step("Mul", x, made.step("Mul", raised, 0.5), swapped=next(turn))
    elif half == 1:
        made.step("Mul", made.step("Div", x, 2.0), raised, swapped=next(turn))
    else:
        made.step("Mul", made.step("Mul", x, raised, swapped=next(turn)), 0.5)
    return made


_KNOWN = sorted(["Abs", "Pow", "Mul", "Add", "Mul", "Tanh", "Add", "Mul", "Mul"])


@settings(max_examples=20, deadline=None)
@given(
    order=st.lists(st.booleans(), min_size=6, max_size=6),
    half=st.integers(0, 2),
    factored=st.booleans(),
)
def test_any_spelling_is_recognised(
    order: list[bool], half: int, factored: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kinds = _spelt("x", order, half=half, factored=factored).rewritten(
        tmp_path_factory.mktemp("gelu")
    )
    assert sorted(kinds) == _KNOWN


@pytest.mark.parametrize("cubic", [0.0447, 0.05, -0.044715])
def test_what_is_another_function_stays(cubic: float, tmp_path: Path) -> None:
    assert "Pow" not in _spelt("x", [False] * 6, cubic=cubic).rewritten(tmp_path)


def test_what_others_read_stays(tmp_path: Path) -> None:
    made = _spelt("x", [False] * 6)
    tanh = next(one for one in made.nodes if one.op_type == "Tanh")
    last = made.nodes[-1].output[0]
    made.step("Sub", last, tanh.output[0])
    assert "Pow" not in made.rewritten(tmp_path)


def test_the_known_spelling_stays(tmp_path: Path) -> None:
    made = _Spelling()
    cubed = made.step("Mul", made.step("Pow", "x", 3.0), 0.044715)
    raised = made.step("Tanh", made.step("Mul", made.step("Add", "x", cubed), _SLOPE))
    made.step("Mul", made.step("Mul", "x", 0.5), made.step("Add", raised, 1.0))
    before = [one.op_type for one in made.nodes]
    assert made.rewritten(tmp_path) == before
