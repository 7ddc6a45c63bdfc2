"""The mean of an image, by channel, is a pooling.

    ReduceMean(x [n, c, h, w], axes h and w)      becomes      GlobalAveragePool(x)

ONNX Runtime pools in the blocked layout that its convolutions make; for a reduction it changes the
layout back first.
"""

from __future__ import annotations

from onnx import TensorProto

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.views import add_view

_RANKS = (4, 5)
"""Of images. Rows of three dimensions have no blocked layout, and ONNX Runtime recognises a layer
normalisation by its means."""


def pool(net: Net, node: Node) -> bool:
    """Replaces a mean over all places of an image."""
    if not is_pooling(net, node):
        return False
    source, target = node.inputs[0], node.outputs[0]
    n, c = net.shapes[source][:2]
    shape = (n, c, *(1 for _ in net.shapes[source][2:]))
    net.remove(node)
    if net.shapes[target] == shape:
        net.add("GlobalAveragePool", [source], [target])
        return True
    pooled = net.fresh(f"{target}__pooled", shape)
    net.add("GlobalAveragePool", [source], [pooled])
    add_view(net, pooled, target)
    return True


def is_pooling(net: Net, node: Node) -> bool:
    """Whether it is the mean of each channel of what a convolution or its like made."""
    if node.kind != "ReduceMean" or net.shape(node.outputs[0]) is None:
        return False
    shape, axes = net.shape(node.inputs[0]), _axes(net, node)
    if shape is None or axes is None or len(shape) not in _RANKS:
        return False
    is_spatial = sorted(axis % len(shape) for axis in axes) == list(range(2, len(shape)))
    return is_spatial and net.types.get(node.inputs[0]) == TensorProto.FLOAT


def _axes(net: Net, node: Node) -> list[int] | None:
    if len(node.inputs) < 2 or not node.inputs[1]:
        return list(node.attribute("axes") or ()) or None
    found = net.integers(node.inputs[1])
    return None if found is None else found.tolist()
