"""What storing every intermediate and every weight in a narrow float does to the answers.

Generated kernels compute in float32 and store in the engine's format. That is imitated here by a
cast to the format and back after every operator, which rounds at least as often.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
MIN_NARROWED = 4096
"""Constants with fewer elements stay in float32, as in `planner.kernels.pack`."""


def write_rounded(path: Path, dtype: str, target: Path) -> None:
    """Writes the model at `path` with every float32 tensor rounded to `dtype` once it is made.

    Picklable, for a process of its own.
    """
    source = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    rounded(source, dtype)
    onnx.save(source, target)


def rounded(model: ModelProto, dtype: str) -> None:
    """The same in memory, in place."""
    graph = model.graph
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
            if name in floats and name not in kept:
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
