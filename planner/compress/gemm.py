"""Gemm -> MatMul + Add, exactly, because weight-only and dynamic kernels exist for MatMul only.

    Y = alpha·A'·B' + beta·C    ->    M = A'·(alpha·B'),  Y = M + beta·C

The MatMul keeps the Gemm's name and the sum keeps its output tensor. Constants absorb
transposition, alpha and beta (one rounding at most, where they are no powers of two).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from planner.compress import surgery
from planner.compress.base import Array


def split_gemms(onnx_model: ModelProto, ops: Collection[str]) -> None:
    """Rewrite the Gemm operators among `ops` in place; their B must be constant."""
    if not any(node.name in ops and node.op_type == "Gemm" for node in onnx_model.graph.node):
        return
    weights = surgery.initialisers(onnx_model)
    nodes: list[NodeProto] = []
    for node in onnx_model.graph.node:
        if node.name in ops and node.op_type == "Gemm":
            nodes.extend(_split(onnx_model, node, weights))
        else:
            nodes.append(node)
    onnx_model.graph.ClearField("node")
    onnx_model.graph.node.extend(nodes)
    surgery.drop_unused(onnx_model)


def _split(
    onnx_model: ModelProto, node: NodeProto, weights: dict[str, TensorProto]
) -> list[NodeProto]:
    values = surgery.attributes_of(node)
    made: list[NodeProto] = []
    left, output = node.input[0], node.output[0]
    if values.get("transA", 0):
        made.append(
            helper.make_node("Transpose", [left], [f"{output}__a"], f"{node.name}/a", perm=[1, 0])
        )
        left = f"{output}__a"
    right = _scaled(
        onnx_model,
        weights,
        node.input[1],
        float(values.get("alpha", 1.0)),
        bool(values.get("transB", 0)),
    )
    bias = node.input[2] if len(node.input) > 2 else ""
    product = f"{output}__product" if bias else output
    made.append(helper.make_node("MatMul", [left, right], [product], node.name))
    if not bias:
        return made
    beta = float(values.get("beta", 1.0))
    if bias in weights:
        bias = _scaled(onnx_model, weights, bias, beta, False)
    elif beta != 1.0:
        factor = _constant(onnx_model, weights, f"{output}__beta", np.array(beta))
        made.append(helper.make_node("Mul", [bias, factor], [f"{output}__c"], f"{node.name}/beta"))
        bias = f"{output}__c"
    made.append(helper.make_node("Add", [product, bias], [output], f"{node.name}/bias"))
    return made


def normalise(onnx_model: ModelProto, ops: Collection[str]) -> None:
    """Fold alpha and beta of Gemm operators into their constants; make biases vectors; in place.

    Why: ONNX Runtime's QDQ tool resets beta to 1 without scaling the bias, and fails on a bias of
    shape [1, N].
    """
    weights = surgery.initialisers(onnx_model)
    for node in onnx_model.graph.node:
        if node.name not in ops or node.op_type != "Gemm":
            continue
        values = surgery.attributes_of(node)
        for key, position in (("alpha", 1), ("beta", 2)):
            factor = float(values.get(key, 1.0))
            if factor == 1.0 or len(node.input) <= position or not node.input[position]:
                continue
            node.input[position] = _scaled(onnx_model, weights, node.input[position], factor, False)
        _flatten_bias(onnx_model, node, weights)
        kept = [a for a in node.attribute if a.name not in ("alpha", "beta")]
        node.ClearField("attribute")
        node.attribute.extend(kept)
    surgery.drop_unused(onnx_model)


def separate_biases(onnx_model: ModelProto, ops: Collection[str]) -> None:
    """Give each of these operators a bias of its own, in place.

    Why: a quantised bias has the scale of its operator's input and weight, and ONNX Runtime's tool
    names the copies it makes without looking whether the name is taken.
    """
    weights = surgery.initialisers(onnx_model)
    taken: set[str] = set()
    for node in onnx_model.graph.node:
        if node.name not in ops or node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
            continue
        bias = node.input[2]
        if bias in taken and bias in weights:
            value = surgery.to_array(weights[bias])
            node.input[2] = _constant(onnx_model, weights, f"{bias}__of_{node.name}", value)
        taken.add(bias)


def _flatten_bias(onnx_model: ModelProto, node: NodeProto, weights: dict[str, TensorProto]) -> None:
    if len(node.input) < 3 or node.input[2] not in weights:
        return
    bias, matrix = weights[node.input[2]], weights[node.input[1]]
    columns = matrix.dims[0 if surgery.attributes_of(node).get("transB", 0) else 1]
    if list(bias.dims) == [columns]:
        return
    vector = np.broadcast_to(surgery.to_array(bias).reshape(-1), (columns,))
    node.input[2] = _constant(onnx_model, weights, f"{bias.name}__vector{columns}", vector)


def _scaled(
    onnx_model: ModelProto,
    weights: dict[str, TensorProto],
    name: str,
    factor: float,
    transpose: bool,
) -> str:
    """Name of a constant `factor·value` (transposed), shared by operators that want the same."""
    if factor == 1.0 and not transpose:
        return name
    wanted = f"{name}__{'t' if transpose else ''}{'' if factor == 1.0 else repr(factor)}"
    value = surgery.to_array(weights[name])
    value = value.T if transpose else value
    return _constant(onnx_model, weights, wanted, value * np.float32(factor))


def _constant(
    onnx_model: ModelProto,
    weights: dict[str, TensorProto],
    name: str,
    value: Array,
) -> str:
    if name not in weights:
        weights[name] = surgery.from_array(np.asarray(value, np.float32), name)
        onnx_model.graph.initializer.append(weights[name])
    return name
