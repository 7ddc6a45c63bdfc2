"""Forms of operators that few exporters write, against ONNX Runtime."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from planner.graph.semantics import program_of
from planner.ops import reference
from planner.ops.contraction import spelled
from tests.ops.models import random

Array = np.ndarray[Any, Any]


def check(
    kind: str,
    inputs: Sequence[Array],
    constants: Sequence[Array | None] = (),
    *,
    outputs: int = 1,
    opset: int = 20,
    **attributes: Any,
) -> None:
    """One operator means the same here as there; constants follow its inputs, None: left out."""
    feeds = {f"x{i}": value for i, value in enumerate(inputs)}
    stored = {f"c{i}": value for i, value in enumerate(constants) if value is not None}
    names = [*feeds, *(f"c{i}" if v is not None else "" for i, v in enumerate(constants))]
    made = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(kind, names, made, **attributes)],
        "form",
        [_port(name, value) for name, value in feeds.items()],
        [onnx.ValueInfoProto(name=name) for name in made],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    if opset < 9:
        graph.input.extend(_port(name, value) for name, value in stored.items())
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if opset < 9 else 8
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = dict(zip(made, session.run(made, feeds), strict=True))
    found = reference.run(program_of(_shaped(model, wanted)), feeds)
    for name in made:
        assert found[name].shape == wanted[name].shape
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5, atol=2e-5)


def _port(name: str, value: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
    )


def _shaped(model: onnx.ModelProto, outputs: Mapping[str, Array]) -> onnx.ModelProto:
    """The model with the shapes of its outputs declared."""
    del model.graph.output[:]
    model.graph.output.extend(_port(name, value) for name, value in outputs.items())
    return model


# ---------------------------------------------------------------------- resizing
def _floats(*values: float) -> Array:
    return np.array(values, np.float32)


@pytest.mark.parametrize("mode", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("sizes", [(10, 5), (9, 7), (35, 11), (5, 15)])
def test_positions_between_two_elements_round_as_in_single_precision(
    mode: str, sizes: tuple[int, int]
) -> None:
    """12 -> 10: the third position lies at 2.5, or just above in double precision."""
    wanted = np.array([1, 2, *sizes], np.int64)
    given = [None, None, wanted]
    check("Resize", [random(1, 2, 12, 6)], given, mode="nearest", nearest_mode=mode, opset=13)


@pytest.mark.parametrize("scales", [(10 / 12, 5 / 6), (0.9, 1.1), (2.3, 3.7)])
@pytest.mark.parametrize("how", ["half_pixel", "asymmetric", "pytorch_half_pixel"])
def test_scales_are_taken_as_they_are_given(scales: tuple[float, float], how: str) -> None:
    x, given = random(1, 2, 12, 6), [None, _floats(1, 1, *scales)]
    for mode in ("nearest", "linear"):
        check("Resize", [x], given, mode=mode, coordinate_transformation_mode=how, opset=13)


def test_scales_of_some_axes_and_of_old_operator_sets() -> None:
    x = random(1, 2, 7, 5)
    check("Resize", [x], [None, _floats(1.6, 0.9)], mode="linear", axes=[2, 3], opset=18)
    check("Resize", [x], [None, _floats(1.6, 0.9)], mode="nearest", axes=[3, -2], opset=18)
    check("Resize", [x], [_floats(1, 1, 1.5, 1.7)], mode="nearest", opset=10)
    check("Resize", [x], [_floats(1, 1, 0.6, 0.5)], mode="nearest", opset=10)
    check("Upsample", [x], [_floats(1, 1, 1.5, 1.7)], mode="nearest", opset=9)
    check("Upsample", [x], mode="nearest", scales=[1.0, 1.0, 1.5, 1.7], opset=7)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_one_scale_for_all_axes_where_their_ratio_is_kept(policy: str, mode: str) -> None:
    given = [None, None, np.array([12, 12], np.int64)]
    more: dict[str, Any] = {"keep_aspect_ratio_policy": policy, "axes": [2, 3]}
    check("Resize", [random(1, 2, 7, 13)], given, mode=mode, opset=18, **more)


# ---------------------------------------------------------------------- padding, normalising
@pytest.mark.parametrize("mode", ["edge", "reflect"])
@pytest.mark.parametrize(
    "pads", [(0, 0, 2, 3, 0, 0, 1, 2), (1, 0, 0, 3, 0, 2, 0, 0), (0, 0, 0, 0, 0, 0, 0, 0)]
)
def test_edges_and_mirror_images_of_several_axes(mode: str, pads: tuple[int, ...]) -> None:
    check("Pad", [random(3, 4, 5, 6)], [np.array(pads, np.int64)], mode=mode, opset=18)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalisation_with_a_scale_a_group_or_a_channel(opset: int) -> None:
    """ONNX Runtime knows the older one as a function alone."""
    count = 4 if opset == 18 else 12
    given = [random(count, seed=1), random(count, seed=2)]
    check("GroupNormalization", [random(2, 12, 7)], given, num_groups=4, opset=opset)


@pytest.mark.parametrize("exponent", [2, 3])
def test_powers_of_whole_numbers_are_products(exponent: int) -> None:
    check("Pow", [np.array([-7, -4, 3, 5])], [np.array(exponent)])


def test_exponents_may_be_whole_numbers() -> None:
    check("Pow", [np.abs(random(4)) + 1, np.array([2, -1, 0, 3])])


def test_what_other_integers_lie_beyond_the_edge_stays_whole() -> None:
    """A sum of parts that are not all there: their zeros are whole numbers too."""
    check("CumSum", [np.arange(6).reshape(2, 3)], [np.array(1)], exclusive=1)
    check("EyeLike", [random(3, 4)], k=1)


# ---------------------------------------------------------------------- recurrences
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("has_state", [False, True])
def test_a_gru_resets_before_or_after_its_product(
    direction: str, late: int, has_state: bool
) -> None:
    ways, hidden = 2 if direction == "bidirectional" else 1, 5
    given = [
        random(ways, 3 * hidden, 4, seed=1),
        random(ways, 3 * hidden, hidden, seed=2),
        random(ways, 6 * hidden, seed=3),
        None,
        random(ways, 2, hidden, seed=4) if has_state else None,
    ]
    more = {"hidden_size": hidden, "direction": direction, "linear_before_reset": late}
    check("GRU", [random(9, 2, 4)], given, outputs=2, opset=14, **more)


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid"])
def test_a_recurrence_with_another_activation(kind: str) -> None:
    given = [random(1, 5, 4, seed=1), random(1, 5, 5, seed=2), random(1, 10, seed=3)]
    more = {"hidden_size": 5, "activations": [kind]}
    check("RNN", [random(6, 2, 4)], given, outputs=2, opset=14, **more)


# ---------------------------------------------------------------------- sums over letters
@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...h,hk->...k", [(2, 3, 4), (4, 5)]),
        ("b...d,b...d->b...", [(2, 3, 4, 5), (2, 1, 4, 5)]),
        ("...ij,jk", [(2, 3, 4), (4, 5)]),
        ("bth,hr,rf->btf", [(2, 3, 4), (4, 2), (2, 5)]),
        ("ab,bc,cd,d->a", [(2, 3), (3, 4), (4, 5), (5,)]),
        ("ii->i", [(4, 4)]),
    ],
)
def test_an_einsum_of_dots_and_of_many_operands(
    equation: str, shapes: list[tuple[int, ...]]
) -> None:
    check("Einsum", [random(*s, seed=i) for i, s in enumerate(shapes)], equation=equation)


_LETTERS = st.lists(st.sampled_from("abcd"), max_size=3, unique=True)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(_LETTERS, st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=3))
def test_dots_stand_for_the_last_of_the_dimensions_they_may_be(
    operands: list[tuple[list[str], int, int]],
) -> None:
    """As NumPy has it: each term's letters, its dots and where among the letters they stand."""
    sizes = dict(zip("abcd", (2, 3, 4, 5), strict=True))
    terms, arrays = [], []
    for letters, dots, place in operands:
        place = min(place, len(letters))
        terms.append("".join([*letters[:place], "...", *letters[place:]]))
        shape = [sizes[letter] for letter in letters]
        arrays.append(random(*shape[:place], *(6, 7)[2 - dots :], *shape[place:]))
    equation = ",".join(terms)
    named, wanted = spelled(equation, [value.ndim for value in arrays])
    assert [len(term) for term in named] == [value.ndim for value in arrays]
    letters = [*wanted, *itertools.chain(*named)]
    number = {letter: i for i, letter in enumerate(dict.fromkeys(letters))}
    told = [item for v, term in zip(arrays, named, strict=True) for item in (v, term)]
    places = [[number[x] for x in item] if isinstance(item, list) else item for item in told]
    found = np.einsum(*places, [number[letter] for letter in wanted])
    np.testing.assert_allclose(found, np.einsum(equation, *arrays), rtol=1e-5, atol=1e-5)
