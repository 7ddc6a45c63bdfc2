"""Operators whose value is known at build time because shapes are static."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from planner.ops.builder import Builder, Lower, Node, NotCovered
from planner.ops.nest import TensorType

Array = np.ndarray[Any, Any]


def _define(builder: Builder, node: Node, value: Array) -> None:
    builder.constants[node.outputs[0]] = value
    builder.types[node.outputs[0]] = TensorType(value.dtype.name, value.shape)


def _constant(builder: Builder, node: Node) -> None:
    for key in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if key in node.attributes:
            kind = np.float32 if "float" in key else np.int64
            value = node.attributes[key]
            _define(builder, node, np.asarray(value, None if key == "value" else kind))
            return
    raise NotCovered("a Constant that is no number", where=node.name)


def _shape(builder: Builder, node: Node) -> None:
    shape = builder.shape(node.inputs[0])
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    _define(builder, node, np.asarray(shape[start:end], np.int64))


def _size(builder: Builder, node: Node) -> None:
    _define(builder, node, np.asarray(builder.types[node.inputs[0]].size, np.int64))


def _constant_of_shape(builder: Builder, node: Node) -> None:
    shape = builder.known(node, 0)
    if shape is None:
        raise NotCovered("ConstantOfShape without a shape", where=node.name)
    fill = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    _define(builder, node, np.full(tuple(int(size) for size in shape), fill))


def _range(builder: Builder, node: Node) -> None:
    given = [builder.known(node, position) for position in range(3)]
    start, limit, step = (value.reshape(-1)[0] for value in given if value is not None)
    _define(builder, node, np.arange(start, limit, step, dtype=start.dtype))


def _eye_like(builder: Builder, node: Node) -> None:
    """Ones on a diagonal, whatever is in the matrix whose shape it takes."""
    rows, columns = builder.shape(node.inputs[0])
    offset = int(node.attributes.get("k", 0))
    _define(builder, node, np.eye(rows, columns, offset, builder.dtype(node.outputs[0])))


FAMILY: Mapping[str, Lower] = {
    "Constant": _constant,
    "Shape": _shape,
    "Size": _size,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "EyeLike": _eye_like,
}
