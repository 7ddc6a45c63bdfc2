"""Small models for the tests of the fused path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
Ports = Mapping[str, Sequence[int]]


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Seeded normal numbers."""
    made = np.random.default_rng(seed).standard_normal(shape) * scale
    return made.astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Ports,
    outputs: Ports,
    weights: Mapping[str, Array],
    *,
    opset: int = 20,
) -> onnx.ModelProto:
    """A checked model of float32 ports."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 9
    onnx.checker.check_model(made)
    return made


def block(rows: int = 20, width: int = 64, hidden: int = 128) -> onnx.ModelProto:
    """Normalisation, two products with an activation between them, a residual: a Transformer's."""
    node = helper.make_node
    nodes = [
        node("LayerNormalization", ["x", "g", "b"], ["n"]),
        node("Gemm", ["n", "w1", "b1"], ["h"]),
        node("Sigmoid", ["h"], ["s"]),
        node("Mul", ["h", "s"], ["a"]),
        node("MatMul", ["a", "w2"], ["o"]),
        node("Add", ["o", "x"], ["y"]),
    ]
    weights = {
        "g": random(width, seed=1, scale=0.1) + 1,
        "b": random(width, seed=2, scale=0.1),
        "w1": random(width, hidden, seed=3, scale=0.1),
        "b1": random(hidden, seed=4),
        "w2": random(hidden, width, seed=5, scale=0.1),
    }
    return model(nodes, {"x": (rows, width)}, {"y": (rows, width)}, weights)


def attention(rows: int = 12, heads: int = 2, size: int = 16) -> onnx.ModelProto:
    """Heads split, scores, softmax, values, heads joined."""
    node, width = helper.make_node, heads * size
    nodes = [node("Gemm", ["x", "w", "b"], ["qkv"])]
    nodes += [node("Split", ["qkv"], ["q", "k", "v"], axis=1, num_outputs=3)]
    for name, order in (("q", [1, 0, 2]), ("k", [1, 2, 0]), ("v", [1, 0, 2])):
        nodes += [
            node("Reshape", [name, "shape"], [f"{name}1"]),
            node("Transpose", [f"{name}1"], [f"{name}2"], perm=order),
        ]
    nodes += [
        node("MatMul", ["q2", "k2"], ["scores"]),
        node("Mul", ["scores", "scale"], ["scaled"]),
        node("Softmax", ["scaled"], ["p"], axis=-1),
        node("MatMul", ["p", "v2"], ["o"]),
        node("Transpose", ["o"], ["o1"], perm=[1, 0, 2]),
        node("Reshape", ["o1", "flat"], ["y"]),
    ]
    weights = {
        "w": random(width, 3 * width, seed=1, scale=0.2),
        "b": random(3 * width, seed=2),
        "shape": np.array([rows, heads, size], np.int64),
        "flat": np.array([rows, width], np.int64),
        "scale": np.array(size**-0.5, np.float32),
    }
    return model(nodes, {"x": (rows, width)}, {"y": (rows, width)}, weights)


def convolutions() -> onnx.ModelProto:
    """Strided, padded, depthwise and grouped convolutions, pooling, a classifier."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=16),
        node("Clip", ["c2", "zero", "six"], ["r2"]),
        node("Conv", ["r2", "w3", "b3"], ["c3"], group=2),
        node("MaxPool", ["c3"], ["p1"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("GlobalAveragePool", ["p1"], ["p2"]),
        node("Flatten", ["p2"], ["f"]),
        node("Gemm", ["f", "w4", "b4"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["y"], axis=-1),
    ]
    weights = {
        "w1": random(16, 3, 3, 3, seed=1, scale=0.3),
        "b1": random(16, seed=2),
        "w2": random(16, 1, 3, 3, seed=3, scale=0.5),
        "w3": random(24, 8, 1, 1, seed=4, scale=0.5),
        "b3": random(24, seed=5),
        "w4": random(10, 24, seed=6),
        "b4": random(10, seed=7),
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
    }
    return model(nodes, {"x": (2, 3, 15, 13)}, {"y": (2, 10)}, weights)


def feeds_of(made: onnx.ModelProto) -> dict[str, Array]:
    """Seeded inputs."""
    return {
        port.name: random(
            *(dim.dim_value for dim in port.type.tensor_type.shape.dim), seed=100 + position
        )
        for position, port in enumerate(made.graph.input)
    }
