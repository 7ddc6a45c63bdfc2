"""The bias of a wide and shallow product becomes one more row of its matrix.

    x [.., k] x W [k, n] + b [n]      becomes      [x, 1] [.., k + 1] x [W; b]

Where a table of a few columns becomes scores of tens of thousands of words, writing the scores
costs as much as computing them, and a bias passes over all of them once more: ONNX Runtime copies
it into the result before the product, or adds it afterwards, and counts a result of three
dimensions anew, which copies it where it is an output of the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.values import floats, is_floats, operand, store

DEEPEST = 64
"""Rows of a matrix; a sum of more takes longer than a pass over its results."""
_WIDER = 4
"""Columns a row of the matrix: the copy of what the product reads, with its ones, then costs less
than a pass over the results. One thread of ONNX Runtime 1.27 took, with the longer matrix, 1.6
times as long for 1 column of 32 rows, as long for 64, and 0.93 times for 128."""
_LEAST_RESULTS = 2**16
"""256 KiB: results that leave the private caches of most processors."""


@dataclass(frozen=True, slots=True)
class Shallow:
    """A product and its bias."""

    product: Node
    bias: str


def wide_product(net: Net, node: Node) -> Shallow | None:
    """The wide and shallow product whose bias this sum adds."""
    shape = net.shape(node.outputs[0])
    if node.kind != "Add" or shape is None or math.prod(shape) < _LEAST_RESULTS:
        return None
    for name in node.inputs:
        product, found = net.maker(name), operand(net, node, name)
        if product is None or found is None or product.kind != "MatMul":
            continue
        if net.only_reader(name) is not node or net.shape(name) != shape:
            continue
        if _is_wide(net, product) and _is_bias(net, found[0], shape[-1]):
            return Shallow(product, found[0])
    return None


def _is_wide(net: Net, product: Node) -> bool:
    left, right = (net.shape(name) for name in product.inputs)
    if left is None or right is None or len(right) != 2 or len(left) < 2:
        return False
    is_wide = right[1] >= _WIDER * right[0]
    return is_wide and right[0] <= DEEPEST and is_floats(net, product.inputs[1])


def _is_bias(net: Net, name: str, columns: int) -> bool:
    shape = net.shape(name)
    is_row = shape is not None and shape[-1:] == (columns,) and math.prod(shape) == columns
    return is_row and is_floats(net, name)


def deepen(net: Net, node: Node) -> bool:
    """Replaces the sum."""
    found = wide_product(net, node)
    if found is None:
        return False
    product, result = found.product, node.outputs[0]
    matrix, bias = floats(net, product.inputs[1]), floats(net, found.bias)
    if matrix is None or bias is None:
        return False
    rows = net.shapes[product.inputs[0]][:-1]
    ones = store(net, np.ones((*rows, 1)), f"{found.bias}__factor")
    longer = net.fresh(f"{product.inputs[0]}__and_one", (*rows, len(matrix) + 1))
    net.add("Concat", [product.inputs[0], ones], [longer], axis=len(rows))
    net.read(product, 0, longer)
    net.read(product, 1, store(net, np.vstack([matrix, bias.reshape(1, -1)]), found.bias))
    net.remove(node)
    net.make(product, 0, result)
    return True
