"""Factors of rows wait until a product has made the rows shorter.

    (x / d) W + b      becomes      (x W) / d + b          d: one number a row

A pass over a wide x becomes one over what few columns the product leaves: features divided by their
sum before the first layer of a network on graphs, attention weights normalised before the values.
"""

from __future__ import annotations

import math

from onnx import TensorProto

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.values import ELEMENTS_A_US

_LEAST_ELEMENTS = 2**15
"""Saved by the rule, at least: a pass over fewer costs no more than the operators themselves."""
_LEAST_RATIO = 2
"""How many times shorter rows must become."""
_BIAS_IS_OPTIONAL = 11
"""Opset since which a Gemm may have no bias."""


def postpone(net: Net, node: Node) -> bool:
    """Moves a factor of rows from before a product to behind it."""
    above = net.maker(node.inputs[0]) if node.kind in ("Gemm", "MatMul") else None
    if above is None or postponed_elements(net, above) == 0:
        return False
    position = _rows(net, above)
    assert position is not None
    source, factor = above.inputs
    if position == 0:
        source, factor = factor, source
    _behind(net, node, source, above.kind, factor)
    net.remove(above)
    return True


def _behind(net: Net, node: Node, source: str, kind: str, factor: str) -> None:
    """The product of `source`, then the factor, then the product's bias."""
    target, bias = node.outputs[0], (*node.inputs, "")[2]
    shape = net.shapes[target]
    net.remove(node)
    made = net.fresh(f"{target}__unscaled", shape)
    given = {one: node.attribute(one) for one in ("alpha", "transB")}
    kept = {one: value for one, value in given.items() if value is not None}
    net.add(node.kind, [source, node.inputs[1]], [made], **kept)
    scaled = net.fresh(f"{target}__scaled", shape) if bias else target
    net.add(kind, [made, factor], [scaled])
    if bias:
        net.add("Add", [scaled, bias], [target])


def postponed_cost(net: Net, node: Node) -> int:
    """What a factor before a product costs beyond an operator, in units of a small one."""
    return postponed_elements(net, node) // ELEMENTS_A_US


def postponed_elements(net: Net, node: Node) -> int:
    """How many elements fewer a factor of rows would pass over behind the product that reads it; 0
    where it stays."""
    made = node.outputs[0]
    if node.kind not in ("Mul", "Div") or _rows(net, node) is None:
        return 0
    reader = net.only_reader(made)
    if reader is None or reader.inputs.count(made) != 1:
        return 0
    wide, columns = net.shapes[made], _columns(net, reader, made)
    if columns is None or columns * _LEAST_RATIO > wide[-1]:
        return 0
    saved = math.prod(wide[:-1]) * (wide[-1] - columns)
    return saved if saved >= _LEAST_ELEMENTS else 0


def _rows(net: Net, node: Node) -> int | None:
    """Which operand is one number a row of the other; a quotient's is the second."""
    made = net.shape(node.outputs[0])
    if net.types.get(node.outputs[0]) != TensorProto.FLOAT:
        return None  # whole numbers are rounded when divided, half ones overflow when summed
    for position in (1, 0) if node.kind == "Mul" else (1,):
        factor, other = (net.shape(node.inputs[p]) for p in (position, 1 - position))
        if made is None or factor is None or other != made or len(factor) != len(made):
            continue
        if factor[-1] == 1 and made[-1] > 1:
            return position
    return None


def _columns(net: Net, node: Node, name: str) -> int | None:
    """How many columns a product makes of the rows of a tensor; None where it is none, or its
    weights are no matrix."""
    made, shape = net.shape(node.outputs[0]), net.shape(name)
    if node.kind not in ("Gemm", "MatMul") or node.inputs[0] != name or made is None:
        return None
    if len(net.shape(node.inputs[1]) or ()) != 2 or shape is None or made[:-1] != shape[:-1]:
        return None
    if node.kind == "MatMul":
        return made[-1]
    is_plain = not node.attribute("transA", 0) and float(node.attribute("beta", 1.0)) == 1.0
    return made[-1] if is_plain and net.opset >= _BIAS_IS_OPTIONAL else None


__all__ = ["postpone", "postponed_cost"]
