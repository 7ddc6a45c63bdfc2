"""Factors and offsets of channels move into the weights of the convolution or product beside them.

    conv(x; W, b) · s + t        becomes      conv(x; sW, sb + t)
    conv(s · x; W, b)            becomes      conv(x; Ws, b)            s by channel of the input
    conv(x + t; W, b)            becomes      conv(x; W, b + Σ W t)     where nothing is padded
    conv(s · x + t; W, b)        becomes      conv(x + t/s; Ws, b)      where the border is padded

Batch normalisation, learnt scales of blocks and normalised inputs leave such operators behind,
each of them a pass over memory and, between blocked convolutions, two changes of layout.
"""

from __future__ import annotations

import numpy as np

from planner.graph.rewrite.linear import linear
from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.values import LARGEST, Floats, by_channel, floats, operand, store

_KINDS = ("Mul", "Div", "Add", "Sub")
_GELU_DEPTH = 3
"""Operators between the error function and the last factor, itself counted."""


def absorb_after(net: Net, node: Node) -> bool:
    """Lets the operator that makes its operand do what a factor or offset does."""
    if node.kind not in _KINDS or net.shape(node.outputs[0]) is None:
        return False
    for name in node.inputs:
        above = linear(net, net.maker(name))
        found = operand(net, node, name)
        if above is None or found is None or above.node.outputs[0] in net.pinned:
            continue
        if len(net.readers(name)) != 1 or net.shape(name) != net.shape(node.outputs[0]):
            continue
        change = _change(net, node, found, above.rank, above.out_axis, above.out_channels)
        if change is None:
            continue
        if not above.scale_out(*change):
            continue
        target = node.outputs[0]
        net.remove(node)
        net.make(above.node, 0, target)
        return True
    return False


def absorb_before(net: Net, node: Node) -> bool:
    """Lets a convolution do what a factor or offset of its input does."""
    found = linear(net, node)
    if found is None or found.in_axis is None:
        return False
    above = net.maker(node.inputs[0])
    if above is None or above.kind not in _KINDS or len(above.inputs) != 2:
        return False
    if _ends_gelu(net, above):
        return False
    for name in above.inputs:
        constant = operand(net, above, name)
        if (
            constant is None
            or net.shape(name) is None
            or net.shape(name) != net.shape(node.inputs[0])
        ):
            continue
        change = _change(net, above, constant, found.rank, found.in_axis, found.in_channels)
        if change is None or not found.scale_in(*change):
            continue
        old = node.inputs[0]
        net.read(node, 0, name)
        net.prune(old)
        return True
    return False


def _ends_gelu(net: Net, node: Node, depth: int = _GELU_DEPTH) -> bool:
    """Whether it is the last factor of x · (1 + erf(x/√2)) · ½, or its kin with tanh: ONNX Runtime
    fuses these whole or not at all."""
    makers = [net.maker(name) for name in node.inputs]
    found = [one for one in makers if one is not None]
    if any(one.kind in ("Erf", "Tanh") for one in found):
        return True
    above = [one for one in found if one.kind in ("Mul", "Add")]
    return depth > 1 and any(_ends_gelu(net, one, depth - 1) for one in above)


def swap(net: Net, node: Node) -> bool:
    """Takes an offset before a factor, x · s + t = (x + t/s) · s, where padded convolutions read
    it: they take the factor then."""
    if node.kind != "Add" or node.outputs[0] in net.pinned:
        return False
    readers = [linear(net, reader) for reader in net.readers(node.outputs[0])]
    if not readers or any(
        one is None or one.in_axis is None or one.node.inputs[0] != node.outputs[0]
        for one in readers
    ):
        return False
    for name in node.inputs:
        above, offset = net.maker(name), operand(net, node, name)
        if above is None or above.kind != "Mul" or offset is None or name in net.pinned:
            continue
        if len(net.readers(name)) != 1 or len(above.inputs) != 2:
            continue
        if _swapped(net, node, above, offset[0]):
            return True
    return False


def _swapped(net: Net, add: Node, mul: Node, offset: str) -> bool:
    t = floats(net, offset)
    for name in mul.inputs:
        factor = operand(net, mul, name)
        s = floats(net, factor[0]) if factor else None
        if t is None or s is None or factor is None or not s.all():
            continue
        shape = net.shape(name)
        if shape is None or shape != net.shape(add.outputs[0]):
            continue
        with np.errstate(over="ignore"):
            moved = t.astype(np.float64) / s
        if moved.ndim > len(shape) or not (np.abs(moved) < LARGEST).all():
            continue
        result, between = add.outputs[0], mul.outputs[0]
        net.remove(add)
        net.remove(mul)
        net.add("Add", [name, store(net, moved, f"{offset}__by_scale")], [between])
        net.add("Mul", [between, factor[0]], [result])
        return True
    return False


def _change(
    net: Net, node: Node, constant: tuple[str, int], rank: int, axis: int, channels: int
) -> tuple[Floats | None, Floats | None] | None:
    """(factor, offset) by channel that the operator means; None where it means something else."""
    name, position = constant
    value = floats(net, name)
    each = None if value is None else by_channel(value, rank, axis, channels)
    if each is None:
        return None
    if node.kind == "Add":
        return None, each
    if node.kind == "Mul":
        return each, None
    if node.kind == "Sub":
        return (None, -each) if position == 1 else (-np.ones_like(each), each)
    if position == 0 or not each.all():
        return None
    return 1.0 / each, None
