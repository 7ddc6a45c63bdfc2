"""Constants among an operator's operands, as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from planner.graph.rewrite.net import Net, Node

Floats = npt.NDArray[np.float32]
ELEMENTS_A_US = 2000
"""Of an elementwise pass, in units of a small operator: a division of 2,708 x 1,433 took 2.5 ns an
element on a busy machine (one thread); a fifth of that is counted, for smaller ones come from the
cache."""
LARGEST = 1e30
"""Weights beyond this would leave float32 with the sums they take part in."""


def is_floats(net: Net, name: str) -> bool:
    """Whether it is a stored float32 constant; its value is not looked at."""
    return net.is_stored(name) and net.constants[name].data_type == TensorProto.FLOAT


def floats(net: Net, name: str) -> Floats | None:
    """A stored float32 constant's value."""
    return numpy_helper.to_array(net.constants[name]) if is_floats(net, name) else None


def scalar(net: Net, name: str) -> float | None:
    """The value of a float32 constant of one element."""
    value = floats(net, name)
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None


def operand(net: Net, node: Node, name: str) -> tuple[str, int] | None:
    """The constant beside `name` among two operands, with its position."""
    if len(node.inputs) != 2 or name not in node.inputs:
        return None
    position = 1 - node.inputs.index(name)
    other = node.inputs[position]
    return (other, position) if other in net.constants else None


def by_channel(value: Floats, rank: int, axis: int, channels: int) -> Floats | None:
    """One number per channel where the constant differs along that axis alone; float64."""
    if value.ndim > rank or not np.isfinite(value).all():
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    others = [size for place, size in enumerate(shape) if place != axis]
    if any(size != 1 for size in others) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(value.reshape(-1).astype(np.float64), (channels,))


def store(net: Net, value: npt.NDArray[Any], base: str) -> str:
    """A new float32 constant."""
    array = np.ascontiguousarray(value, np.float32)
    name = net.fresh(base, array.shape)
    net.constants[name] = numpy_helper.from_array(array, name)
    return name
