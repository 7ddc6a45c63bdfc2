"""Large matrices are quantised here, a few NumPy calls each, while a tool works on a stand-in.

ONNX Runtime's integer tools quantise column by column in Python and copy the whole model several
times: minutes for a gigabyte of weights. What they do to a matrix W is this,

    s_j = 2·max_i |W_ij| / (2·top)   (1 where that vanishes),   Q_ij = round(W_ij / s_j)

with `top` 127, or 64 in the reduced range. So the tool gets a matrix of a single 1 in W's place,
does all the surgery on the graph, and `s` and `Q` take the place of what it made of that. The
values are the tool's own, bit for bit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from planner.compress import surgery
from planner.compress.base import Array
from planner.graph import weights

_LEAST_ELEMENTS = 1 << 16
"""Below this the tool itself is fast enough."""
_ROWS_AT_ONCE_BYTES = 64 << 20


def replaceable(onnx_model: ModelProto, ops: Collection[str]) -> set[str]:
    """Large matrices that only MatMul operators among `ops` read, as their right operand."""
    large = {
        tensor.name
        for tensor in onnx_model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and math.prod(tensor.dims) >= _LEAST_ELEMENTS
    }
    for node in onnx_model.graph.node:
        right = {node.input[1]} if _is_product(node, ops) else set()
        large -= surgery.reads_of(node) - right
        large -= {node.input[0]} if right else set()
    return large - {value.name for value in (*onnx_model.graph.input, *onnx_model.graph.output)}


def _is_product(node: NodeProto, ops: Collection[str]) -> bool:
    return node.op_type == "MatMul" and node.name in ops


@contextlib.contextmanager
def stand_ins(onnx_model: ModelProto, ops: Collection[str], folder: Path) -> Iterator[None]:
    """Matrices that can be replaced are, until the block ends; then what the tool made of them is.

    Args:
        folder: of weights that the model only refers to.

    Raises:
        ValueError: a matrix that is not finite.
    """
    graph = onnx_model.graph
    names = replaceable(onnx_model, ops)
    real: dict[str, TensorProto] = {}
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name in names:
            tensor = graph.initializer.pop(index)
            real[tensor.name] = tensor
            one = np.ones((1, 1), np.float32)
            graph.initializer.append(surgery.from_array(one, tensor.name))
    yield
    made, used = surgery.initialisers(onnx_model), surgery.names_used(onnx_model.graph)
    for name, tensor in real.items():
        if f"{name}_quantized" in made:
            _quantise(weights.to_array(tensor, folder), name, made)
        if name in made and name in used:  # else the tool forgot it, and a copy may be large
            made[name].CopyFrom(tensor)


def _quantise(value: Array, name: str, made: dict[str, TensorProto]) -> None:
    """Replaces what the tool made of the 1: its scale, zero point and bytes."""
    scale, zero, quantised = (
        made[f"{name}_{what}"] for what in ("scale", "zero_point", "quantized")
    )
    top = np.rint(1 / surgery.to_array(scale).max())
    largest = _largest(value)
    if not scale.dims:  # one for the whole matrix
        largest = largest.max(keepdims=True)
    if not np.isfinite(largest).all():
        raise ValueError(f"the weight {name!r} has NaN or infinite values")
    steps = 2 * largest.astype(np.float64) / (2 * top)
    steps = np.where(steps < np.finfo(np.float32).tiny, 1.0, steps).astype(np.float32)
    rounded = np.empty(value.shape, np.int8)
    for rows in _slices(value):
        levels = value[rows] / steps
        np.rint(levels, out=levels)
        rounded[rows] = np.clip(levels, -128, 127, out=levels)
    shape = steps.shape if scale.dims else ()
    _replace(scale, steps.reshape(shape))
    _replace(zero, np.zeros(shape, np.int8))
    _replace(quantised, rounded)


def _replace(tensor: TensorProto, value: Array) -> None:
    tensor.CopyFrom(surgery.from_array(value, tensor.name))


def _largest(value: Array) -> Array:
    """Absolute maximum of each column."""
    found = np.zeros(value.shape[1], np.float32)
    for rows in _slices(value):
        np.maximum(found, np.abs(value[rows]).max(axis=0), out=found)
    return found


def _slices(value: Array) -> Iterator[slice]:
    """Rows of a bounded size together."""
    step = max(_ROWS_AT_ONCE_BYTES // (4 * value.shape[1]), 1)
    return (slice(start, start + step) for start in range(0, len(value), step))
