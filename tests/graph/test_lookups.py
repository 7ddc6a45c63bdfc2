"""One-hot rows times a table are a look-up, out of range too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from tests.graph.nasties import model, node, value, weight
from tests.graph.rewritten import rewritten, shapes_of

_COUNT = 9


def _made(
    lead: tuple[int, ...],
    kind: int,
    *,
    is_swapped: bool = False,
    first: int = 0,
    to: int = TensorProto.FLOAT,
    bias: bool = False,
    opset: int = 17,
) -> ModelProto:
    rng = np.random.default_rng(0)
    integer = np.int32 if kind == TensorProto.INT32 else np.int64
    numbers = np.arange(first, first + _COUNT, dtype=integer).reshape(*(1,) * len(lead), _COUNT)
    pair = ["r", "i"] if is_swapped else ["i", "r"]
    dtype = np.float32 if to == TensorProto.FLOAT else np.float64
    weights = [
        weight("r", numbers),
        weight("w", rng.standard_normal((_COUNT, 5)).astype(dtype)),
        weight("b", rng.standard_normal(5).astype(dtype)),
    ]
    nodes = [
        node("Equal", pair, ["e"]),
        node("Cast", ["e"], ["h"], to=to),
        node("MatMul", ["h", "w"], ["m" if bias else "y"]),
    ]
    if bias:
        nodes.append(node("Add", ["m", "b"], ["y"]))
    return model(
        nodes, [value("i", [*lead, 1], kind)], [value("y", None, to)], weights, opset=opset
    )


def _rewritten(made: ModelProto, folder: Path) -> list[str]:
    """Operators of the rewritten model, which is seen to answer as before, bit for bit."""
    is_short = made.graph.input[0].type.tensor_type.elem_type == TensorProto.INT32
    ((name, shape),) = shapes_of(made).items()
    drawn = np.random.default_rng(1).integers(-3, _COUNT + 3, shape)
    feeds = {name: drawn.astype(np.int32 if is_short else np.int64)}
    return rewritten(made, folder, feeds, 0.0)


@settings(max_examples=20, deadline=None)
@given(
    lead=st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple),
    kind=st.sampled_from([TensorProto.INT32, TensorProto.INT64]),
    is_swapped=st.booleans(),
    bias=st.booleans(),
)
def test_a_one_hot_product_is_a_look_up(
    lead: tuple[int, ...],
    kind: int,
    is_swapped: bool,
    bias: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = _made(lead, kind, is_swapped=is_swapped, bias=bias)
    kinds = _rewritten(made, tmp_path_factory.mktemp("hot"))
    assert "MatMul" not in kinds
    assert "Equal" not in kinds
    assert {"Clip", "Gather"} <= set(kinds)


@pytest.mark.parametrize(
    "made",
    [
        _made((4,), TensorProto.INT64, first=1),
        _made((4,), TensorProto.INT64, to=TensorProto.DOUBLE),
        _made((4,), TensorProto.INT64, opset=11),
    ],
    ids=["another range", "another type", "no clip of whole numbers"],
)
def test_others_stay(made: ModelProto, tmp_path: Path) -> None:
    assert "MatMul" in _rewritten(made, tmp_path)


def test_a_table_of_infinite_numbers_stays(tmp_path: Path) -> None:
    made = _made((4,), TensorProto.INT64)
    table = np.full((_COUNT, 5), np.inf, np.float32)  # zero times infinity is not zero
    made.graph.initializer[1].CopyFrom(weight("w", table))
    assert "MatMul" in _rewritten(made, tmp_path)
