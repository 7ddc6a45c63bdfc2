"""Small models for the compression tests, with the planner's own view of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from planner.ir.graph import Graph, Op, Tensor
from planner.spec.session import SessionSettings

SESSION = SessionSettings(intra_op_threads=1, spinning=False)
Array = np.ndarray[Any, Any]


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Normal float32 values."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def write(
    path: Path,
    nodes: Sequence[NodeProto],
    inputs: dict[str, tuple[int, Sequence[int]]],
    outputs: Sequence[str],
    weights: dict[str, Array],
    opset: int = 17,
) -> tuple[Path, Graph]:
    """The model on disk, checked, and its graph."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, t, list(s)) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path, graph_of(model)


def graph_of(model: onnx.ModelProto) -> Graph:
    """Operators and tensors of a model whose shapes are all known."""
    tensors: dict[str, Tensor] = {}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        kind = value.type.tensor_type
        shape = tuple(dim.dim_value for dim in kind.shape.dim)
        tensors[value.name] = _tensor(value.name, kind.elem_type, shape, False)
    for weight in model.graph.initializer:
        tensors[weight.name] = _tensor(weight.name, weight.data_type, tuple(weight.dims), True)
    ops = tuple(
        Op(node.name, node.op_type, node.domain, tuple(node.input), tuple(node.output))
        for node in model.graph.node
    )
    return Graph(
        ops,
        tensors,
        tuple(value.name for value in model.graph.input),
        tuple(value.name for value in model.graph.output),
    )


def _tensor(name: str, number: int, shape: tuple[int, ...], constant: bool) -> Tensor:
    kind = helper.tensor_dtype_to_np_dtype(number)
    return Tensor(name, kind.name, shape, int(np.prod(shape)) * kind.itemsize, constant)


def cnn(path: Path, opset: int = 17) -> tuple[Path, Graph]:
    """Conv-Relu, a residual Conv-Add-Relu, pooling, a Gemm with alpha, beta and a [1, N] bias."""
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        make("Relu", ["c1"], ["r1"], "relu1"),
        make("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        make("Add", ["c2", "r1"], ["a"], "add"),
        make("Relu", ["a"], ["r2"], "relu2"),
        make("MaxPool", ["r2"], ["m"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        make("Flatten", ["m"], ["f"], "flat"),
        make("Gemm", ["f", "w3", "b3"], ["y"], "gemm", transB=1, alpha=0.5, beta=2.0),
    ]
    weights = {
        "w1": random(8, 3, 3, 3, seed=1, scale=0.3),
        "b1": random(8, seed=2),
        "w2": random(8, 8, 3, 3, seed=3, scale=0.2),
        "w3": random(10, 128, seed=4, scale=0.1),
        "b3": random(1, 10, seed=5),
    }
    return write(path, nodes, {"x": (TensorProto.FLOAT, [1, 3, 8, 8])}, ["y"], weights, opset)


def mixer(path: Path) -> tuple[Path, Graph]:
    """Embedding, MatMul and Gemm sharing a weight, MatMul of two activations, Softmax, LSTM."""
    make = helper.make_node
    nodes = [
        make("Gather", ["table", "ids"], ["e"], "embed"),
        make("MatMul", ["e", "shared"], ["q"], "query"),
        make("Reshape", ["e", "flat_shape"], ["e2"], "flat"),
        make("Gemm", ["e2", "shared", "bias"], ["k2"], "key"),
        make("Reshape", ["k2", "back_shape"], ["k"], "unflat"),
        make("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        make("MatMul", ["q", "kt"], ["s"], "scores"),
        make("Softmax", ["s"], ["p"], "softmax", axis=-1),
        make("MatMul", ["p", "e"], ["v"], "mix"),
        make("LSTM", ["v", "lw", "lr", "lb"], ["h", "", ""], "lstm", hidden_size=16),
        make("Tanh", ["h"], ["y"], "tanh"),
    ]
    weights = {
        "table": random(50, 64, seed=1),
        "shared": random(64, 64, seed=2, scale=0.15),
        "bias": random(64, seed=3),
        "flat_shape": np.array([8, 64], np.int64),
        "back_shape": np.array([1, 8, 64], np.int64),
        "lw": random(1, 64, 64, seed=4, scale=0.2),
        "lr": random(1, 64, 16, seed=5, scale=0.2),
        "lb": random(1, 128, seed=6, scale=0.2),
    }
    return write(path, nodes, {"ids": (TensorProto.INT64, [1, 8])}, ["y", "p"], weights)
