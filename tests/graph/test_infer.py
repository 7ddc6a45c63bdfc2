"""Shapes around packed products are inferred, and a malformed one fails no model."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from planner.graph import infer


def packed(inputs: list[str], domain: str = "com.microsoft", **sizes: int) -> onnx.ModelProto:
    """x -> packed product -> Relu -> y, with scales of float32."""
    attributes: dict[str, Any] = {"bits": 8, "block_size": 32, **sizes}
    nodes = [
        helper.make_node("MatMulNBits", inputs, ["p"], "product", domain=domain, **attributes),
        helper.make_node("Relu", ["p"], ["y"], "relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "packed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("W", TensorProto.UINT8, [8, 2, 32], bytes(512), raw=True),
            helper.make_tensor("s", TensorProto.FLOAT, [8, 2], [1.0] * 16),
        ],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def shape_of(model: onnx.ModelProto) -> list[int] | None:
    """Of the answer, as far as it is known."""
    infer.annotate(model)
    found = model.graph.output[0].type.tensor_type
    return [dim.dim_value for dim in found.shape.dim] if found.HasField("shape") else None


def test_a_packed_product_makes_what_a_plain_one_makes() -> None:
    assert shape_of(packed(["x", "W", "s"], K=64, N=8)) == [3, 8]


@pytest.mark.parametrize(
    "model",
    [
        packed(["x", "W"], K=64, N=8),
        packed(["x"], K=64, N=8),
        packed(["x", "W", "s"]),
        packed(["x", "W", "s"], "somebody.else", K=64, N=8),
    ],
    ids=["no scales", "no weights", "no sizes", "another domain"],
)
def test_what_is_none_or_malformed_stays_unknown(model: onnx.ModelProto) -> None:
    assert shape_of(model) is None


@pytest.mark.parametrize(("kind", "columns"), [(TensorProto.UINT4, 64), (TensorProto.UINT8, 32)])
def test_a_packed_look_up_makes_what_a_plain_one_makes(kind: int, columns: int) -> None:
    """Whether two weights share a byte by type, or by shape."""
    table = helper.make_tensor("W", kind, [8, columns], bytes(256), raw=True)
    scales = helper.make_tensor("s", TensorProto.FLOAT, [8, 2], [1.0] * 16)
    node = helper.make_node(
        "GatherBlockQuantized", ["W", "x", "s"], ["p"], "rows",
        domain="com.microsoft", block_size=32, gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["p"], ["y"], "relu")],
        "packed",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [3, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [table, scales],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    assert shape_of(helper.make_model(graph, opset_imports=opsets, ir_version=10)) == [3, 5, 64]
