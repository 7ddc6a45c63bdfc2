"""Products with a matrix on the right are done in two dimensions, where bias and activation fuse.

    [b, t, k] x [k, n]      becomes      view -> [b·t, k] x [k, n] -> view
    [k] x [k, n]            becomes      view -> [1, k] x [k, n] -> view
    [m, k] x [k]            becomes      view -> [1, k] x [k, m] -> view    (constants transposed)

ONNX Runtime fuses the bias into a two-dimensional product only (and reshapes to get there), and
multiplies a bare vector many times slower than a matrix of one row. The views meet those of the
neighbouring operators and vanish.
"""

from __future__ import annotations

import math

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.shallow import wide_product
from planner.graph.rewrite.views import add_view, viewed


def flatten(net: Net, node: Node) -> bool:
    """Lets a product of a vector or of a stack of matrices run in two dimensions."""
    if node.kind != "MatMul" or net.shape(node.outputs[0]) is None:
        return False
    left, right = (net.shape(name) for name in node.inputs)
    if left is None or right is None:
        return False
    if len(left) > 2 and _copies(net, node):
        return False
    if len(right) == 2 and len(left) not in (0, 2):
        _multiply(net, node, node.inputs[0], node.inputs[1])
        return True
    if len(right) != 1 or len(left) != 2 or not net.is_stored(node.inputs[0]):
        return False
    _multiply(net, node, node.inputs[1], net.transposed(node.inputs[0]))
    return True


def _copies(net: Net, node: Node) -> bool:
    """Whether a view of the result would copy it: it is, or will be, an output of the model."""
    name = node.outputs[0]
    reader = net.only_reader(name)
    return name in net.pinned or (reader is not None and wide_product(net, reader) is not None)


def _multiply(net: Net, node: Node, left: str, right: str) -> None:
    """`left`, as a matrix of its last axis, times the matrix `right`."""
    shape, old, read = net.shapes[left], node.outputs[0], list(node.inputs)
    rows, columns = math.prod(shape[:-1]), net.shapes[right][1]
    for position, name in enumerate((viewed(net, left, (rows, shape[-1])), right)):
        net.read(node, position, name)
    net.make(node, 0, net.fresh(old, (rows, columns)))
    add_view(net, node.outputs[0], old)
    for name in read:
        net.prune(name)
