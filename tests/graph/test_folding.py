"""Factors, offsets and gates move into their neighbours: same answers, fewer operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto

from planner.graph import infer
from planner.graph.rewrite import rewrite
from tests.graph.nasties import model, node, save, value, weight
from tests.graph.rewritten import rewritten, shapes_of

Array = np.ndarray[Any, Any]
_RNG = np.random.default_rng(0)


def _array(*shape: int) -> Array:
    return _RNG.standard_normal(shape).astype(np.float32)


def _number(x: float) -> Array:
    return np.array(x, np.float32)


def _kinds(made: ModelProto, folder: Path) -> list[str]:
    """Operators of the rewritten model, which is seen to answer as before."""
    feeds = {name: _array(*shape) for name, shape in shapes_of(made).items()}
    return rewritten(made, folder, feeds, 1e-10)


def _image(nodes: Sequence[NodeProto], weights: Sequence[TensorProto]) -> ModelProto:
    """A model of an image x to y, with 4 channels in and out unless nodes say otherwise."""
    return model(nodes, [value("x", [1, 4, 5, 6])], [value("y", None)], weights)


_CONV = weight("w", _array(4, 4, 3, 3))
_HARD_SWISH = [
    node("Add", ["c", "three"], ["shifted"]),
    node("Clip", ["shifted", "zero", "six"], ["clipped"]),
]
_ENDS = [weight("three", _number(3)), weight("zero", _number(0)), weight("six", _number(6))]


@pytest.mark.parametrize("tail", ["div", "mul", "gate first", "gate alone"])
def test_a_hard_swish_is_a_gate_and_a_product(tail: str, tmp_path: Path) -> None:
    sixth = weight("sixth", np.float32(1) / _number(6))
    product = {
        "div": [node("Mul", ["c", "clipped"], ["p"]), node("Div", ["p", "six"], ["y"])],
        "mul": [node("Mul", ["clipped", "c"], ["p"]), node("Mul", ["sixth", "p"], ["y"])],
        "gate first": [node("Div", ["clipped", "six"], ["g"]), node("Mul", ["c", "g"], ["y"])],
        "gate alone": [node("Div", ["clipped", "six"], ["g"]), node("Sub", ["g", "c"], ["y"])],
    }[tail]
    conv = node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
    kinds = _kinds(_image([conv, *_HARD_SWISH, *product], [_CONV, *_ENDS, sixth]), tmp_path)
    assert kinds == ["Conv", "HardSigmoid", "Sub" if tail == "gate alone" else "Mul"]


@pytest.mark.parametrize("other", ["another divisor", "low end", "two readers", "square"])
def test_what_only_looks_like_a_gate_stays(other: str, tmp_path: Path) -> None:
    nodes = [
        node("Sin", ["x"], ["c"]),
        *_HARD_SWISH,
        node("Div", ["clipped", "five" if other == "another divisor" else "six"], ["g"]),
        node("Mul", ["c", "g"], ["y" if other != "two readers" else "m"]),
    ]
    if other == "two readers":
        nodes.append(node("Sub", ["m", "clipped"], ["y"]))
    if other == "square":
        nodes[-2:] = [
            node("Mul", ["clipped", "clipped"], ["g"]),
            node("Div", ["g", "six"], ["y"]),
        ]
    ends = [*_ENDS, weight("five", _number(5))]
    if other == "low end":
        ends[1] = weight("zero", _number(-1))
    assert "HardSigmoid" not in _kinds(_image(nodes, ends), tmp_path)


@pytest.mark.parametrize("pads", [0, 1])
def test_what_stands_around_a_convolution_moves_into_it(pads: int, tmp_path: Path) -> None:
    nodes = [
        node("Mul", ["x", "s"], ["a"]),
        node("Add", ["t", "a"], ["b"]),
        node("Conv", ["b", "w"], ["c"], pads=[pads] * 4),
        node("Mul", ["c", "v"], ["d"]),
        node("Sub", ["one", "d"], ["y"]),
    ]
    weights = [
        _CONV,
        weight("s", _array(4, 1, 1)),
        weight("t", _array(1)),
        weight("v", _array(1, 4, 1, 1)),
        weight("one", _number(1)),
    ]
    # an offset before a border of zeros is no constant after it: it alone stays
    assert _kinds(_image(nodes, weights), tmp_path) == ["Add", "Conv"][1 - pads :]


def test_a_factor_that_others_read_moves_and_stays(tmp_path: Path) -> None:
    nodes = [
        node("Mul", ["x", "s"], ["a"]),
        node("Conv", ["a", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Div", ["c", "s"], ["d"]),
        node("Sub", ["d", "a"], ["y"]),
    ]
    kinds = _kinds(_image(nodes, [_CONV, weight("s", _array(4, 1, 1))]), tmp_path)
    assert sorted(kinds) == ["Conv", "Mul", "Sub"]


@pytest.mark.parametrize("shape", [(1, 1, 6), (5, 1), (4,), (4, 5, 1)])
def test_what_differs_along_other_axes_stays(shape: tuple[int, ...], tmp_path: Path) -> None:
    other = 6 if shape == (4,) else shape[-1]
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Mul", ["c", "s"], ["y"]),
    ]
    scale = weight("s", _array(*shape[:-1], other))
    assert _kinds(_image(nodes, [_CONV, scale]), tmp_path) == ["Conv", "Mul"]


@pytest.mark.parametrize("kind", ["Erf", "Tanh"])
def test_a_gelu_keeps_its_half(kind: str, tmp_path: Path) -> None:
    nodes = [
        node(kind, ["x"], ["e"]),
        node("Add", ["e", "one"], ["f"]),
        node("Mul", ["x", "f"], ["g"]),
        node("Mul", ["g", "half"], ["h"]),
        node("Conv", ["h", "w"], ["y"]),
    ]
    weights = [_CONV, weight("one", _number(1)), weight("half", _number(0.5))]
    assert _kinds(_image(nodes, weights), tmp_path) == [kind, "Add", "Mul", "Mul", "Conv"]


def test_outputs_of_the_model_are_made_as_before(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Mul", ["c", "s"], ["y"]),
    ]
    weights = [_CONV, weight("s", _array(4, 1, 1))]
    ports = [value("y", None), value("c", None)]
    made = model(nodes, [value("x", [1, 4, 5, 6])], ports, weights)
    assert _kinds(made, tmp_path) == ["Conv", "Mul"]


@pytest.mark.parametrize("number", [0.0, float("inf"), 3e38])
def test_no_weight_is_made_that_float32_cannot_hold(number: float, tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Div", ["c", "s"], ["y"])]
    made = _image(nodes, [_CONV, weight("s", _number(number))])
    infer.annotate(made)
    path, out = save(made, tmp_path), tmp_path / "rewritten.onnx"
    if rewrite(path, out):
        stored = [onnx.numpy_helper.to_array(one) for one in onnx.load(out).graph.initializer]
        assert all(np.isfinite(one).all() for one in stored)
    else:
        assert not out.exists()


@pytest.mark.parametrize("keeps", [0, 1])
@pytest.mark.parametrize("opset", [13, 18])
def test_the_mean_of_an_image_is_a_pooling(keeps: int, opset: int, tmp_path: Path) -> None:
    given: dict[str, Any] = {"axes": [-1, 2]} if opset < 18 else {}
    reads = ["r"] if opset < 18 else ["r", "axes"]
    nodes = [node("Relu", ["x"], ["r"]), node("ReduceMean", reads, ["y"], keepdims=keeps, **given)]
    axes = weight("axes", np.array([2, 3], np.int64))
    made = _image(nodes, [] if opset < 18 else [axes])
    made.opset_import[0].version = opset
    view = [] if keeps else ["Reshape"]
    assert _kinds(made, tmp_path) == ["Relu", "GlobalAveragePool", *view]


@pytest.mark.parametrize("axes", [[1], [3], [1, 2, 3]])
def test_other_means_stay(axes: list[int], tmp_path: Path) -> None:
    mean = node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)
    made = _image([mean], [weight("axes", np.array(axes))])
    made.opset_import[0].version = 18
    assert _kinds(made, tmp_path) == ["ReduceMean"]


def test_means_of_rows_stay_where_a_normalisation_is_recognised(tmp_path: Path) -> None:
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[2]), node("Sub", ["x", "m"], ["y"])]
    made = model(nodes, [value("x", [1, 4, 8])], [value("y", None)], [])
    made.opset_import[0].version = 13
    assert _kinds(made, tmp_path) == ["ReduceMean", "Sub"]


_AFFINE = st.tuples(
    st.sampled_from(["Mul", "Div", "Add", "Sub"]), st.booleans(), st.booleans()
)  # operator, constant first, one number instead of one a channel


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["Conv", "depthwise", "grouped", "ConvTranspose", "Gemm", "GemmT"]),
    has_bias=st.booleans(),
    pads=st.integers(0, 1),
    before=st.lists(_AFFINE, max_size=3),
    after=st.lists(_AFFINE, max_size=3),
    seed=st.integers(0, 2**16),
)
def test_random_chains_answer_as_before(
    kind: str,
    has_bias: bool,
    pads: int,
    before: list[tuple[str, bool, bool]],
    after: list[tuple[str, bool, bool]],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rng = np.random.default_rng(seed)
    is_product = kind.startswith("Gemm")
    channel = (4,) if is_product else (4, 1, 1)
    weights: list[TensorProto] = []

    def constant(shape: tuple[int, ...]) -> str:
        name = f"k{len(weights)}"
        signs = rng.choice(np.array([-1.0, 1.0]), shape)
        weights.append(weight(name, (signs * rng.uniform(0.5, 2.0, shape)).astype(np.float32)))
        return name

    nodes: list[NodeProto] = []

    def chain(source: str, steps: list[tuple[str, bool, bool]], target: str) -> None:
        names = [source, *(f"{target}{n}" for n in range(len(steps)))]
        for number, (op, is_first, is_one) in enumerate(steps):
            pair = [names[number], constant(() if is_one else channel)]
            is_swapped = is_first and op != "Div"  # a constant over x is no factor of x
            nodes.append(node(op, pair[::-1] if is_swapped else pair, [names[number + 1]]))
        nodes.append(
            node("Sin", [names[-1]], [target])
            if target == "y"
            else node("Identity", [names[-1]], [target])
        )

    chain("x", before, "in")
    shape = {
        "Conv": (4, 4, 3, 3),
        "depthwise": (4, 1, 3, 3),
        "grouped": (4, 2, 3, 3),
        "ConvTranspose": (4, 2, 3, 3),
    }.get(kind, (4, 4))
    bias = [constant((4,))] if has_bias else []
    groups = {"depthwise": 4, "grouped": 2, "ConvTranspose": 2}.get(kind, 1)
    if is_product:
        extra: dict[str, Any] = {"transB": int(kind == "GemmT")}
    else:
        extra = {"pads": [pads] * 4, "group": groups}
    op_type = "Gemm" if is_product else "ConvTranspose" if kind == "ConvTranspose" else "Conv"
    nodes.append(node(op_type, ["in", constant(shape), *bias], ["out"], **extra))
    chain("out", after, "y")
    ports = [value("x", [3, 4] if is_product else [1, 4, 5, 6])]
    made = model(nodes, ports, [value("y", None)], weights)
    kinds = _kinds(made, tmp_path_factory.mktemp("chain"))
    left = [one for one in kinds if one in ("Mul", "Div", "Add", "Sub")]
    if not before or kind in ("Conv", "depthwise", "grouped"):
        offsets = any(op in ("Add", "Sub") for op, _, _ in before) and pads == 1
        assert len(left) <= (len(before) if offsets else 0)
