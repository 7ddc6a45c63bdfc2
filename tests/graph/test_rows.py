"""Factors of rows move behind products that make the rows shorter: same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from tests.graph.nasties import model, node, value, weight
from tests.graph.rewritten import rewritten, shapes_of

_ROWS, _WIDE, _NARROW = 300, 256, 8


def _rewritten(made: ModelProto, folder: Path) -> list[str]:
    """Operators of the rewritten model, which is seen to answer as before."""
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.uniform(0.5, 2.0, shape).astype(np.float32)
        for name, shape in shapes_of(made).items()
    }
    return rewritten(made, folder, feeds, 1e-11)


def _made(
    kind: str,
    product: str = "Gemm",
    *,
    factor: tuple[int, ...] = (_ROWS, 1),
    columns: int = _NARROW,
    is_first: bool = False,
    bias: bool = True,
    opset: int = 17,
    **more: Any,
) -> ModelProto:
    rng = np.random.default_rng(1)
    shape = (columns, _WIDE) if more.get("transB") else (_WIDE, columns)
    weights = [
        weight("w", rng.standard_normal(shape).astype(np.float32)),
        weight("b", rng.standard_normal(columns).astype(np.float32)),
    ]
    pair = ["d", "x"] if is_first else ["x", "d"]
    reads = ["s", "w", "b"] if bias and product == "Gemm" else ["s", "w"]
    nodes = [node(kind, pair, ["s"]), node(product, reads, ["y"], **more)]
    lead = () if product == "Gemm" or len(factor) == 2 else factor[:-2]
    inputs = [value("x", [*lead, _ROWS, _WIDE]), value("d", list(factor))]
    return model(nodes, inputs, [value("y", None)], weights, opset=opset)


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["Mul", "Div"]),
    is_first=st.booleans(),
    bias=st.booleans(),
    more=st.fixed_dictionaries(
        {}, optional={"transB": st.just(1), "alpha": st.sampled_from([0.0, 0.5, 2.0])}
    ),
)
def test_a_factor_of_rows_waits_for_a_product(
    kind: str,
    is_first: bool,
    bias: bool,
    more: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    is_first = is_first and kind == "Mul"  # a factor over x is none of x
    made = _made(kind, is_first=is_first, bias=bias, **more)
    kinds = _rewritten(made, tmp_path_factory.mktemp("rows"))
    assert kinds == ["Gemm", kind, *["Add"][: int(bias)]]


def test_stacks_of_matrices_wait_as_well(tmp_path: Path) -> None:
    kinds = _rewritten(_made("Div", "MatMul", factor=(2, _ROWS, 1)), tmp_path)
    assert kinds.index("Div") > kinds.index("MatMul")


@pytest.mark.parametrize(
    "made",
    [
        _made("Div", factor=(1, _WIDE)),
        _made("Div", columns=_WIDE),
        _made("Add"),
        _made("Div", opset=10),
        _made("Mul", beta=2.0),
    ],
    ids=["columns", "nothing saved", "offset", "no gemm without bias", "scaled bias"],
)
def test_others_stay(made: ModelProto, tmp_path: Path) -> None:
    first, second = made.graph.node
    assert _rewritten(made, tmp_path) == [first.op_type, second.op_type]


def test_whole_numbers_stay(tmp_path: Path) -> None:
    whole = np.arange(_WIDE * _NARROW, dtype=np.int32).reshape(_WIDE, _NARROW)
    nodes = [node("Div", ["x", "d"], ["s"]), node("MatMul", ["s", "w"], ["y"])]
    kind = TensorProto.INT32
    inputs = [value("x", [_ROWS, _WIDE], kind), value("d", [_ROWS, 1], kind)]
    made = model(nodes, inputs, [value("y", None, kind)], [weight("w", whole)])
    assert _rewritten(made, tmp_path) == ["Div", "MatMul"]


def test_what_others_read_stays(tmp_path: Path) -> None:
    made = _made("Div")
    made.graph.node.append(node("Abs", ["s"], ["t"]))
    made.graph.output.append(value("t", [_ROWS, _WIDE]))
    assert _rewritten(made, tmp_path) == ["Div", "Gemm", "Abs"]
