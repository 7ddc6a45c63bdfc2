"""Rules leave alone what somebody outside of their pattern sees: outputs, readers, branches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from tests.graph.nasties import model, node, value, weight
from tests.graph.rewritten import rewritten, shapes_of

_RNG = np.random.default_rng(0)


def _floats(name: str, *shape: int) -> TensorProto:
    return weight(name, _RNG.standard_normal(shape).astype(np.float32))


def _number(name: str, number: float) -> TensorProto:
    return weight(name, np.array(number, np.float32))


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What a rule replaces; the last operator makes y."""

    nodes: list[NodeProto]
    weights: list[TensorProto]
    inputs: list[ValueInfoProto]

    @property
    def inner(self) -> list[str]:
        """Tensors that the rule may do away with."""
        return [one.output[0] for one in self.nodes[:-1] if one.output[0] != "x"]


_GELU = _Pattern(
    [
        node("Abs", ["in"], ["x"]),
        node("Mul", ["x", "x"], ["square"]),
        node("Mul", ["square", "x"], ["cube"]),
        node("Mul", ["cube", "cubic"], ["scaled"]),
        node("Add", ["x", "scaled"], ["sum"]),
        node("Mul", ["sum", "slope"], ["inside"]),
        node("Tanh", ["inside"], ["bent"]),
        node("Add", ["bent", "one"], ["raised"]),
        node("Mul", ["raised", "half"], ["halved"]),
        node("Mul", ["x", "halved"], ["y"]),
    ],
    [
        _number("cubic", 0.044715),
        _number("slope", math.sqrt(2 / math.pi)),
        _number("one", 1.0),
        _number("half", 0.5),
    ],
    [value("in", [3, 40])],
)
_LOOKUP = _Pattern(
    [
        node("Equal", ["index", "numbers"], ["equal"]),
        node("Cast", ["equal"], ["hot"], to=TensorProto.FLOAT),
        node("MatMul", ["hot", "table"], ["y"]),
    ],
    [weight("numbers", np.arange(9)[None]), _floats("table", 9, 5)],
    [value("index", [6, 1], TensorProto.INT64)],
)
_ROWS = _Pattern(
    [node("Div", ["wide", "d"], ["divided"]), node("MatMul", ["divided", "w"], ["y"])],
    [_floats("w", 256, 8)],
    [value("wide", [300, 256]), value("d", [300, 1])],
)
_SLOPES = _Pattern(
    [
        node("Conv", ["image", "k"], ["made"]),
        node("PRelu", ["made", "s"], ["bent"]),
        node("Conv", ["bent", "l"], ["y"]),
    ],
    [_floats("k", 4, 3, 3, 3), _floats("s", 4, 1, 1), _floats("l", 5, 4, 1, 1)],
    [value("image", [2, 3, 6, 7])],
)
_PATTERNS = {"gelu": _GELU, "lookup": _LOOKUP, "rows": _ROWS, "slopes": _SLOPES}


def _feeds(made: ModelProto) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, shape in shapes_of(made).items():
        found[name] = _RNG.uniform(0.5, 2.0, shape).astype(np.float32)
        if name == "index":  # beyond both ends of the table, too
            found[name] = _RNG.integers(-2, 11, shape)
        if name == "flag":
            found[name] = np.array(False)
    return found


def _read(name: str) -> list[NodeProto]:
    return [node("Identity", [name], ["seen"])]


def _captured(name: str) -> list[NodeProto]:
    branches = [
        helper.make_graph([node(kind, [name], [out])], out, [], [value(out, None)])
        for kind, out in (("Identity", "kept"), ("Not", "turned"))
    ]
    if name != "equal":
        branches[1].node[0].op_type = "Neg"
    return [node("If", ["flag"], ["seen"], then_branch=branches[0], else_branch=branches[1])]


_CASES = [(kind, name) for kind, pattern in _PATTERNS.items() for name in pattern.inner]


@pytest.mark.parametrize(("kind", "name"), _CASES)
@pytest.mark.parametrize("look", [None, _read, _captured])
def test_what_others_see_is_as_before(
    kind: str, name: str, look: Callable[[str], list[NodeProto]] | None, tmp_path: Path
) -> None:
    pattern = _PATTERNS[kind]
    seen = TensorProto.BOOL if name == "equal" else TensorProto.FLOAT
    more = look(name) if look else []
    flags = [value("flag", [], TensorProto.BOOL)] if look is _captured else []
    made = model(
        [*pattern.nodes, *more],
        [*pattern.inputs, *flags],
        [value("y", None), value("seen" if look else name, None, seen)],
        pattern.weights,
    )
    feeds = _feeds(made)
    kinds = rewritten(made, tmp_path, feeds, 1e-10)
    assert kinds.count("If") == (look is _captured)


@pytest.mark.parametrize("kind", _PATTERNS)
def test_the_patterns_are_rewritten_where_nobody_looks(kind: str, tmp_path: Path) -> None:
    pattern = _PATTERNS[kind]
    made = model(pattern.nodes, pattern.inputs, [value("y", None)], pattern.weights)
    feeds = _feeds(made)
    kinds = rewritten(made, tmp_path, feeds, 1e-10)
    assert kinds != [one.op_type for one in pattern.nodes]
