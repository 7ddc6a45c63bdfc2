"""What a protobuf once held it keeps: weights that are taken out and put back are there twice."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from planner.compress import element_types, gemm, surgery

_WIDTH, _PRODUCTS = 1024, 12
_WEIGHTS_BYTES = 4 * _WIDTH**2 * _PRODUCTS


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _model() -> ModelProto:
    """Products in a row, their weights in the file, and one that nobody reads."""
    names = [f"t{i}" for i in range(_PRODUCTS + 1)]
    nodes = [
        helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], f"m{i}")
        for i in range(_PRODUCTS)
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, _WIDTH])
        for name in (names[0], names[-1])
    ]
    model = helper.make_model(helper.make_graph(nodes, "row", ends[:1], ends[1:]))
    matrix = np.ones((_WIDTH, _WIDTH), np.float32)
    for i in reversed(range(_PRODUCTS)):
        model.graph.initializer.append(numpy_helper.from_array(matrix, f"w{i}"))
    model.graph.initializer.append(numpy_helper.from_array(matrix[0], "unread"))
    return model


@pytest.mark.parametrize(
    "step",
    [
        element_types.declare_types,
        surgery.drop_unused,
        lambda model: gemm.split_gemms(model, ["m0"]),
    ],
    ids=["declare_types", "drop_unused", "split_gemms"],
)
def test_weights_stay_where_they_are(step: Callable[[ModelProto], None]) -> None:
    model = _model()
    before = _resident_bytes()
    step(model)
    assert _resident_bytes() - before < _WEIGHTS_BYTES / 2
    kept = [tensor.name for tensor in model.graph.initializer]
    assert {f"w{i}" for i in range(_PRODUCTS)} <= set(kept)
    assert step is not surgery.drop_unused or kept == sorted(set(kept) - {"unread"})


def test_types_are_those_of_the_whole_model() -> None:
    model = _model()
    element_types.declare_types(model)
    found = {value.name: value.type.tensor_type for value in model.graph.value_info}
    assert set(found) == {f"t{i}" for i in range(1, _PRODUCTS)}
    for declared in found.values():
        assert declared.elem_type == TensorProto.FLOAT
        assert [dim.dim_value for dim in declared.shape.dim] == [1, _WIDTH]
    assert [value.name for value in model.graph.input] == ["t0"]
    element_types.forget_types(model)
    assert not model.graph.value_info
