"""Small models and the feeds that run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from planner.runtime.tensors import write_tensors

Array = np.ndarray[Any, Any]


def random(*shape: int, seed: int = 0) -> Array:
    """Small float32 values, so that long chains neither overflow nor vanish."""
    rng = np.random.default_rng(seed)
    scale = float(np.sqrt(max(shape[0], 1)))
    return np.asarray(rng.standard_normal(shape) / scale, dtype=np.float32)


def info(name: str, value: Array) -> onnx.ValueInfoProto:
    """The declaration of a value."""
    kind = (
        TensorProto.STRING
        if value.dtype.kind in "OU"
        else helper.np_dtype_to_tensor_dtype(value.dtype)
    )
    return helper.make_tensor_value_info(name, kind, list(value.shape))


def model(
    nodes: Sequence[onnx.NodeProto],
    feeds: Mapping[str, Array],
    outputs: Sequence[str],
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model whose outputs' types ONNX Runtime finds out by itself."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [info(name, value) for name, value in feeds.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    imports = (helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1))
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def perceptron() -> tuple[onnx.ModelProto, dict[str, Array]]:
    """x -> Gemm -> Relu -> Gemm -> y."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], name="second"),
    ]
    weights = {
        "w1": random(64, 64, seed=1),
        "b1": random(64, seed=2),
        "w2": random(64, 16, seed=3),
        "b2": random(16, seed=4),
    }
    feeds = {"x": random(2, 64)}
    return model(nodes, feeds, ["y"], weights), feeds


def save(folder: Path, made: onnx.ModelProto, feeds: Mapping[str, Array]) -> tuple[Path, Path]:
    """(model file, feeds file)."""
    model_path, feeds_path = folder / "model.onnx", folder / "feeds.npz"
    onnx.save(made, model_path)
    write_tensors(feeds_path, feeds)
    return model_path, feeds_path
