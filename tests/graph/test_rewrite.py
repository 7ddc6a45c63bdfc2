"""Rewrites leave every answer as it was, and fewer operators."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from planner.graph import infer
from planner.graph.equality import run_with_onnxruntime
from planner.graph.rewrite import rewrite, rewrite_in_place
from planner.graph.rewrite.recount import regrouped
from planner.runtime.compare import nmse
from tests.graph.nasties import model, node, save, value, weight

Shape = tuple[int, ...]
_RNG = np.random.default_rng(0)


def _array(*shape: int) -> np.ndarray[Any, Any]:
    return _RNG.standard_normal(shape).astype(np.float32)


def _rewritten(made: ModelProto, folder: Path, feeds: dict[str, Any]) -> ModelProto:
    """The rewritten model, seen to answer as before."""
    infer.annotate(made)
    path = save(made, folder)
    out = folder / "rewritten.onnx"
    if rewrite(path, out) == 0:
        return made
    found = onnx.load(out)
    onnx.checker.check_model(found, full_check=True)
    (before,), (after,) = (run_with_onnxruntime(one, feeds, 1) for one in (path, out))
    for name in before:
        assert before[name].shape == after[name].shape
        assert nmse(before[name], after[name]) < 1e-10
    return found


def _types(found: ModelProto) -> list[str]:
    return [one.op_type for one in found.graph.node]


def test_views_that_undo_each_other_vanish(tmp_path: Path) -> None:
    made = model(
        [
            node("Squeeze", ["x", "first"], ["a"]),
            node("Relu", ["a"], ["b"]),
            node("Unsqueeze", ["b", "first"], ["c"]),
            node("Neg", ["c"], ["y"]),
        ],
        [value("x", [1, 3, 4])],
        [value("y", [1, 3, 4])],
        [weight("first", np.array([0]))],
    )
    assert _types(_rewritten(made, tmp_path, {"x": _array(1, 3, 4)})) == ["Relu", "Neg"]


def test_a_layer_computes_on_matrices(tmp_path: Path) -> None:
    """Product, bias, activation, residual, normalisation: no view is left but at the ends."""
    made = model(
        [
            node("MatMul", ["x", "w"], ["p"]),
            node("Add", ["p", "b"], ["q"]),
            node("Relu", ["q"], ["r"]),
            node("MatMul", ["r", "v"], ["s"]),
            node("Add", ["s", "c"], ["t"]),
            node("Add", ["x", "t"], ["u"]),
            node("LayerNormalization", ["u", "g", "c"], ["y"], axis=2),
        ],
        [value("x", [2, 5, 8])],
        [value("y", [2, 5, 8])],
        [
            weight("w", _array(8, 16)), weight("b", _array(16)),
            weight("v", _array(16, 8)), weight("c", _array(8)), weight("g", _array(8)),
        ],
    )  # fmt: skip
    found = _rewritten(made, tmp_path, {"x": _array(2, 5, 8)})
    kinds = _types(found)
    assert kinds[0] == kinds[-1] == "Reshape"
    assert "Reshape" not in kinds[1:-1]


@pytest.mark.parametrize("is_left", [True, False])
def test_a_bare_vector_becomes_a_row(is_left: bool, tmp_path: Path) -> None:
    reads = ["x", "w"] if is_left else ["w", "x"]
    made = model(
        [node("MatMul", reads, ["p"]), node("Relu", ["p"], ["r"]), node("Add", ["r", "b"], ["y"])],
        [value("x", [6])],
        [value("y", [6])],
        [weight("w", _array(6, 6)), weight("b", _array(6))],
    )
    kinds = _types(_rewritten(made, tmp_path, {"x": _array(6)}))
    assert kinds == ["Reshape", "MatMul", "Relu", "Add", "Reshape"]


def test_single_look_ups_become_one_split(tmp_path: Path) -> None:
    """As in models for ranking: one table a column, stacked."""
    columns = [weight(f"i{n}", np.array(n)) for n in range(3)]
    tables = [weight(f"t{n}", _array(7, 4)) for n in range(3)]
    nodes = [node("Gather", ["x", f"i{n}"], [f"c{n}"], axis=1) for n in range(3)]
    nodes += [node("Gather", [f"t{n}", f"c{n}"], [f"e{n}"]) for n in range(3)]
    nodes += [node("Unsqueeze", [f"e{n}", "one"], [f"u{n}"]) for n in range(3)]
    nodes.append(node("Concat", ["u0", "u1", "u2"], ["y"], axis=1))
    made = model(
        nodes,
        [value("x", [2, 3], TensorProto.INT64)],
        [value("y", [2, 3, 4])],
        [*columns, *tables, weight("one", np.array([1]))],
    )
    found = _rewritten(made, tmp_path, {"x": np.array([[1, 2, 3], [6, 5, 0]])})
    assert sorted(_types(found)) == ["Concat", "Gather", "Gather", "Gather", "Split"]


def test_slices_side_by_side_become_one_split(tmp_path: Path) -> None:
    ends = [weight(f"p{n}", np.array([2 * n])) for n in range(4)]
    nodes = [node("Slice", ["x", f"p{n}", f"p{n + 1}", "last"], [f"s{n}"]) for n in range(3)]
    nodes += [node("Add", ["s0", "s2"], ["a"]), node("Mul", ["a", "s1"], ["y"])]
    made = model(
        nodes, [value("x", [3, 6])], [value("y", [3, 2])], [*ends, weight("last", np.array([-1]))]
    )
    assert _types(_rewritten(made, tmp_path, {"x": _array(3, 6)})) == ["Split", "Add", "Mul"]


def test_outputs_of_the_model_and_what_bodies_read_keep_their_names(tmp_path: Path) -> None:
    body = helper.make_graph([node("Neg", ["a"], ["t"])], "b", [], [value("t", [3, 4])])
    other = helper.make_graph([node("Abs", ["a"], ["e"])], "b", [], [value("e", [3, 4])])
    made = model(
        [
            node("Squeeze", ["x", "first"], ["a"]),
            node("Unsqueeze", ["a", "first"], ["back"]),
            node("Unsqueeze", ["back", "first"], ["again"]),
            node("If", ["flag"], ["y"], then_branch=body, else_branch=other),
        ],
        [value("x", [1, 3, 4]), value("flag", [], TensorProto.BOOL)],
        [value("y", [3, 4]), value("again", [1, 1, 3, 4])],
        [weight("first", np.array([0]))],
    )
    found = _rewritten(made, tmp_path, {"x": _array(1, 3, 4), "flag": np.array(True)})
    assert [port.name for port in found.graph.output] == ["y", "again"]
    assert "a" in {name for one in found.graph.node for name in one.output}


def test_branches_are_rewritten_as_models_of_their_own(tmp_path: Path) -> None:
    def branch(kind: str) -> onnx.GraphProto:
        nodes = [
            node("Unsqueeze", ["x", "first"], ["a"]),
            node(kind, ["a"], ["b"]),
            node("Squeeze", ["b", "first"], ["t"]),
        ]
        return helper.make_graph(nodes, "b", [], [value("t", [3, 4])])

    made = model(
        [node("If", ["flag"], ["y"], then_branch=branch("Neg"), else_branch=branch("Exp"))],
        [value("x", [3, 4]), value("flag", [], TensorProto.BOOL)],
        [value("y", [3, 4])],
        [weight("first", np.array([0]))],
    )
    found = _rewritten(made, tmp_path, {"x": _array(3, 4), "flag": np.array(False)})
    bodies = [[one.op_type for one in a.g.node] for a in found.graph.node[0].attribute]
    assert sorted(bodies) == [["Exp"], ["Neg"]]


def test_shapes_that_are_not_fixed_are_left_alone(tmp_path: Path) -> None:
    made = model(
        [node("Unsqueeze", ["x", "first"], ["a"]), node("Squeeze", ["a", "first"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        [weight("first", np.array([0]))],
    )
    infer.annotate(made)
    assert rewrite(save(made, tmp_path), tmp_path / "out.onnx") == 0


@pytest.mark.parametrize(
    ("own", "target", "source", "expected"),
    [
        ((96,), (1, 25, 96), (25, 96), (1, 96)),
        ((1, 25, 1), (1, 25, 96), (25, 96), (25, 1)),
        ((1, 25, 96), (1, 25, 96), (25, 96), (25, 96)),
        ((), (2, 3), (6,), (1,)),
        ((3, 1), (2, 3, 4), (6, 4), None),
        ((2, 1, 1), (2, 3, 4), (6, 4), None),
        ((4,), (2, 1, 4, 1), (2, 4), None),
        ((4, 1), (2, 1, 4, 1), (2, 4), (1, 4)),
    ],
)
def test_operands_are_counted_alike(
    own: Shape, target: Shape, source: Shape, expected: Shape | None
) -> None:
    assert regrouped(own, target, source) == expected


class _Network:
    """A random network of what rewrites are about, grown one operator at a time."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.shapes: dict[str, Shape] = {"x": (1, 4, 6), "z": (4, 6)}

    def grow(self) -> None:
        name = self.pick.choice([name for name, shape in self.shapes.items() if shape])
        shape = self.shapes[name]
        self.pick.choice(
            [self._reshape, self._unary, self._constant, self._pair, self._product, self._last,
             self._mean, self._transpose, self._stack, self._cuts]
        )(name, shape)  # fmt: skip

    def add(self, kind: str, inputs: list[str], shape: Shape, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(node(kind, inputs, [name], **attributes))
        self.shapes[name] = shape
        return name

    def stored(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(weight(name, array))
        return name

    def _reshape(self, name: str, shape: Shape) -> None:
        whole = int(np.prod(shape))
        choices = [
            (whole,),
            (1, whole),
            (1, *shape),
            (*shape, 1),
            (2, whole // 2),
            (1, 2, whole // 2),
        ]
        target = self.pick.choice([one for one in choices if int(np.prod(one)) == whole])
        self.add("Reshape", [name, self.stored(np.array(target))], target)

    def _unary(self, name: str, shape: Shape) -> None:
        self.add(self.pick.choice(["Relu", "Sigmoid", "Neg", "Tanh"]), [name], shape)

    def _constant(self, name: str, shape: Shape) -> None:
        cut = self.pick.randrange(len(shape) + 1)
        own = [self.pick.choice([1, length]) for length in shape[cut:]]
        inputs = [name, self.stored(_array(*own))]
        self.pick.shuffle(inputs)
        self.add(self.pick.choice(["Add", "Mul", "Sub"]), inputs, shape)

    def _pair(self, name: str, shape: Shape) -> None:
        others = [other for other, own in self.shapes.items() if own == shape]
        self.add("Add", [name, self.pick.choice(others)], shape)

    def _product(self, name: str, shape: Shape) -> None:
        columns = self.pick.choice([4, 6])
        self.add("MatMul", [name, self.stored(_array(shape[-1], columns))], (*shape[:-1], columns))

    def _last(self, name: str, shape: Shape) -> None:
        if self.pick.random() < 0.5:
            self.add("Softmax", [name], shape, axis=self.pick.choice([-1, len(shape) - 1]))
            return
        scale = self.stored(_array(shape[-1]))
        self.add("LayerNormalization", [name, scale], shape, axis=-1)

    def _mean(self, name: str, shape: Shape) -> None:
        axis = self.pick.randrange(-len(shape), len(shape))
        kept = [1 if n == axis % len(shape) else length for n, length in enumerate(shape)]
        mean = self.add("ReduceMean", [name], tuple(kept), axes=[axis])
        self.add("Sub", [name, mean], shape)

    def _transpose(self, name: str, shape: Shape) -> None:
        order = list(range(len(shape)))
        self.pick.shuffle(order)
        self.add("Transpose", [name], tuple(shape[n] for n in order), perm=order)

    def _stack(self, name: str, shape: Shape) -> None:
        axis = self.pick.randrange(len(shape))
        others = [other for other, own in self.shapes.items() if own == shape]
        parts = [name, *(self.pick.choice(others) for _ in range(2))]
        joined = tuple(3 * length if n == axis else length for n, length in enumerate(shape))
        self.add("Concat", parts, joined, axis=axis)

    def _cuts(self, name: str, shape: Shape) -> None:
        axis = self.pick.randrange(len(shape))
        length = shape[axis]
        if self.pick.random() < 0.5:
            rest = (*shape[:axis], *shape[axis + 1 :])
            for place in range(min(length, 3)):
                index = self.stored(np.array(self.pick.choice([place, place - length])))
                self.add("Gather", [name, index], rest, axis=axis)
            return
        middle = self.pick.randrange(1, length) if length > 1 else 1
        for start, end in ((0, middle), (middle, length)):
            if start < end:
                ends = [self.stored(np.array([n])) for n in (start, end, axis)]
                self.add("Slice", [name, *ends], (*shape[:axis], end - start, *shape[axis + 1 :]))

    def model(self) -> ModelProto:
        read = {name for one in self.nodes for name in one.input}
        ends = [name for name in self.shapes if name not in read and name not in "xz"]
        inputs = [value(name, self.shapes[name]) for name in "xz"]
        outputs = [value(name, self.shapes[name]) for name in ends]
        return model(self.nodes, inputs, outputs, self.weights)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 25))
def test_random_networks_answer_as_before(
    tmp_path_factory: pytest.TempPathFactory, seed: int, length: int
) -> None:
    network = _Network(seed)
    for _ in range(length):
        network.grow()
    made = network.model()
    folder = tmp_path_factory.mktemp("net")
    infer.annotate(made)
    before = save(made, folder)
    rewrite_in_place(made)
    onnx.checker.check_model(made, full_check=True)
    after = save(made, folder, "after.onnx")
    feeds = {name: _array(*network.shapes[name]) for name in "xz"}
    (expected,), (found,) = (run_with_onnxruntime(one, feeds, 1) for one in (before, after))
    assert expected.keys() == found.keys()
    for name in expected:
        assert expected[name].shape == found[name].shape
        assert nmse(expected[name], found[name]) < 1e-8
