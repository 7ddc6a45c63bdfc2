"""A one-hot row times a table is a look-up.

    Cast(i = 0, 1, .. n-1) · W      becomes      Gather(W over a row of zeros, i between -1 and n)

What is out of range meets no number and makes zeros: i is cut off at both ends, where -1 and n both
mean the row of zeros. Exact: each sum has one term that is not zero.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto, numpy_helper

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.values import ELEMENTS_A_US, Floats, floats, store
from planner.graph.rewrite.views import viewed

_INTEGERS = {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64}
_LEAST_OPSET = 12
"""Since when whole numbers are clipped."""


def look_up(net: Net, node: Node) -> bool:
    """Replaces a comparison with all numbers of a range, and the product of that with a table."""
    found = _one_hot(net, node)
    if found is None:
        return False
    index, table = found
    count, columns = table.shape
    shape, target = net.shapes[index], node.outputs[0]
    kind = _INTEGERS[net.types[index]]
    ends = []
    for end in (-1, count):
        name = net.fresh(f"{target}__end", ())
        net.constants[name] = numpy_helper.from_array(np.array(end, kind), name)
        ends.append(name)
    widened = store(net, np.vstack([table, np.zeros((1, columns), np.float32)]), node.inputs[1])
    old = node.inputs[0]
    net.remove(node)
    cut = net.fresh(f"{target}__index", shape[:-1])
    net.add("Clip", [viewed(net, index, shape[:-1]), *ends], [cut])
    net.add("Gather", [widened, cut], [target], axis=0)
    net.prune(old)
    return True


def one_hot_cost(net: Net, node: Node) -> int:
    """What comparing, casting and multiplying cost beyond operators, in units of a small one."""
    if _one_hot(net, node) is None:
        return 0
    return 2 + math.prod(net.shapes[node.inputs[0]]) // ELEMENTS_A_US


def _one_hot(net: Net, node: Node) -> tuple[str, Floats] | None:
    """(index, table) of a product with one-hot rows; the index has a last dimension of one."""
    if node.kind != "MatMul" or net.opset < _LEAST_OPSET:
        return None
    cast = net.maker(node.inputs[0])
    if cast is None or cast.kind != "Cast" or cast.attribute("to") != TensorProto.FLOAT:
        return None
    equal = net.maker(cast.inputs[0])
    if equal is None or equal.kind != "Equal" or not _is_read_once(net, equal, cast):
        return None
    table = floats(net, node.inputs[1])
    if table is None or table.ndim != 2 or not np.isfinite(table).all():
        return None
    for index, numbers in (equal.inputs, equal.inputs[::-1]):
        if _is_range(net, numbers, len(table)) and _is_column(net, index, equal.outputs[0]):
            return index, table
    return None


def _is_read_once(net: Net, *nodes: Node) -> bool:
    return all(net.only_reader(node.outputs[0]) is not None for node in nodes)


def _is_range(net: Net, name: str, count: int) -> bool:
    numbers, shape = net.integers(name), net.shape(name)
    if numbers is None or not shape or shape[-1] != count:
        return False
    return bool(np.array_equal(numbers, np.arange(count)))


def _is_column(net: Net, name: str, compared: str) -> bool:
    """Whether it is whole numbers, one for each row of what is compared."""
    shape, made = net.shape(name), net.shape(compared)
    if not shape or made is None or name in net.constants:
        return False
    return net.types.get(name) in _INTEGERS and len(shape) > 1 and shape == (*made[:-1], 1)


__all__ = ["look_up", "one_hot_cost"]
