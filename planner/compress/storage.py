"""What storing every intermediate and every weight in a narrow float does to the answers.

Generated kernels compute in float32; they round what they write to memory and what they multiply.
That is imitated here by a cast to the format and back of just those tensors.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from planner.graph.stand_ins import inferred
from planner.graph.wide import widen_in_place

_TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
MIN_NARROWED = 4096
"""Constants with fewer elements stay in float32, as in `planner.kernels.pack`."""

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "LSTM", "GRU", "RNN"})


def write_rounded(path: Path, dtype: str, target: Path, stored: Collection[str]) -> None:
    """Writes the model at `path` with float32 tensors rounded to `dtype` once they are made.

    Args:
        stored: tensors that reach memory; operands of products are rounded anyway.

    Picklable, for a process of its own.
    """
    source = inferred(onnx.load(path))
    rounded(source, dtype, stored)
    onnx.save(source, target)


def write_widened(path: Path, target: Path) -> None:
    """Writes the model at `path` with every 16-bit float tensor as float32: what it would answer
    without any rounding on the way. Inputs and outputs keep their types.

    Picklable, for a process of its own.
    """
    source = onnx.load(path)
    widen_in_place(source)
    onnx.save(source, target)


def rounded(model: ModelProto, dtype: str, stored: Collection[str]) -> None:
    """The same in memory, in place."""
    graph = model.graph
    narrow = {*stored}
    for node in graph.node:
        if node.op_type in _PRODUCTS:
            narrow.update(node.input)
    floats = {
        value.name
        for value in (*graph.value_info, *graph.input)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    kept = {value.name for value in graph.output}
    for item in graph.initializer:
        if item.data_type == TensorProto.FLOAT and np.prod(item.dims) >= MIN_NARROWED:
            _round_weight(item, dtype)
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name in floats & narrow and name not in kept:
                exact = f"{name}__exact"
                node.output[position] = exact
                nodes += _cast_twice(exact, name, dtype)
    del graph.node[:]
    graph.node.extend(nodes)


def _cast_twice(source: str, target: str, dtype: str) -> list[NodeProto]:
    narrow = f"{target}__narrow"
    return [
        helper.make_node("Cast", [source], [narrow], name=f"{narrow}_cast", to=_TYPES[dtype]),
        helper.make_node(
            "Cast", [narrow], [target], name=f"{target}__wide_cast", to=TensorProto.FLOAT
        ),
    ]


def _round_weight(item: TensorProto, dtype: str) -> None:
    value = numpy_helper.to_array(item)
    with np.errstate(over="ignore"):
        narrow = value.astype(np.float16) if dtype == "float16" else _to_bfloat16(value)
    item.CopyFrom(numpy_helper.from_array(narrow.astype(np.float32), item.name))


def _to_bfloat16(
    value: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Rounded to the nearest of the upper 16 bits, ties to even (finite values)."""
    bits = np.ascontiguousarray(value).view(np.uint32)
    up = ((bits >> 16) & 1) + 0x7FFF
    return ((bits + up) & 0xFFFF0000).view(np.float32)
