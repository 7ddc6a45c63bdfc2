"""Operators that do not mind how elements are counted: the same results in another shape.

elementwise    f(x, y) on [1, 25, 96] is f on [25, 96], operands counted likewise
last axis      softmax, normalisation: if the other shape ends with the same axis
"""

from __future__ import annotations

import math

from planner.graph.rewrite.net import Net, Node, Shape
from planner.graph.rewrite.views import add_view, view_of, viewed

_ACTIVATIONS = ("Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "Mish")
_SATURATING = ("Sigmoid", "Tanh", "Erf", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Clip")
_PLAIN = ("Cast", "Neg", "Abs", "Sqrt", "Exp", "Log", "Reciprocal", "Floor", "Ceil", "Round")
_OTHERS = ("Sin", "Cos", "Not", "Sign", "IsNaN", "IsInf", "Swish")
_UNARY = frozenset((*_ACTIVATIONS, *_SATURATING, *_PLAIN, *_OTHERS))
"""The first input decides; others are scalars."""
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean")
_LOGIC = ("And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Where")
BROADCASTING = frozenset((*_ARITHMETIC, *_LOGIC))
"""All inputs are alike."""
_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_LAST_AXIS = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"})
_AXIS_OPSET = 13
"""Before it, Softmax flattens its input at the axis."""


def is_recountable(net: Net, node: Node) -> bool:
    """Whether it makes one tensor, counted as its first input or all its inputs are."""
    kind = node.kind
    if kind in _ROUNDING:
        return _has_one_scale(net, node)
    return kind in _UNARY or kind in BROADCASTING or kind in _LAST_AXIS


def recount(net: Net, node: Node, low: Shape) -> bool:
    """Lets such an operator make its output in another shape of as many elements; a view of that
    takes its place."""
    high = net.shape(node.outputs[0])
    if high is None or any(node.outputs[1:]) or high == low:
        return False
    if node.kind in BROADCASTING:
        operands = [_as_counted(net, name, high, low) for name in node.inputs]
    else:
        is_fit = net.shape(node.inputs[0]) == high and _fits_last_axis(net, node, high, low)
        operands = [(node.inputs[0], low)] if is_fit else [None]
    for found in operands:
        if found is None:
            return False
    for position, (name, shape) in enumerate(found for found in operands if found is not None):
        net.read(node, position, name if shape is None else viewed(net, name, shape))
    if node.kind in _LAST_AXIS:
        set_axis(node, len(low) - 1)
    below(net, node, low)
    return True


def _fits_last_axis(net: Net, node: Node, high: Shape, low: Shape) -> bool:
    if node.kind not in _LAST_AXIS:
        return True
    return _is_last(net, node, high) and low[-1:] == high[-1:]


def _has_one_scale(net: Net, node: Node) -> bool:
    """One scale for the whole tensor."""
    shape = net.shape(node.inputs[1])
    return shape is not None and math.prod(shape) == 1


def _is_last(net: Net, node: Node, shape: Shape) -> bool:
    if node.kind in ("Softmax", "LogSoftmax") and net.opset < _AXIS_OPSET:
        return False
    parameters = [net.shape(name) for name in node.inputs[1:] if name]
    fits = all(own is not None and len(own) <= 1 for own in parameters)
    return fits and node.attribute("axis", -1) in (-1, len(shape) - 1)


def set_axis(node: Node, axis: int) -> None:
    for attribute in node.made.attribute:
        if attribute.name == "axis":
            attribute.i = axis


def _as_counted(
    net: Net, name: str, target: Shape, source: Shape
) -> tuple[str, Shape | None] | None:
    """How an operand of an operator on `target` is read by the same operator on `source`: the
    tensor, and the shape to view it in (None: as it is). None where it does not fit."""
    own = net.shape(name)
    counted = None if own is None else regrouped(own, target, source)
    if own is None or counted is None:
        return None
    above = view_of(net, name)
    if above is not None and above[1] == counted:
        return above[0], None
    is_part = own != target  # a whole operand gives the result its shape
    if own == counted or (is_part and _bare(own) == _bare(counted) and len(own) <= len(source)):
        return name, None
    is_nearer = distance(source) < distance(target)
    return (name, counted) if name in net.constants or is_nearer else None


def _bare(shape: Shape) -> Shape:
    """Without leading dimensions of one, which broadcasting adds by itself."""
    leading = next((n for n, length in enumerate(shape) if length != 1), len(shape))
    return shape[leading:]


def regrouped(own: Shape, target: Shape, source: Shape) -> Shape | None:
    """What broadcasts to `source` as `own` does to `target`; both have the same elements.

    Dimensions are taken in groups of equal products; in each, an operand must be whole or one.
    """
    own = (*(1 for _ in range(len(target) - len(own))), *own)
    found: list[int] = []
    for into, out in _groups(target, source):
        mine, whole = own[into], target[into]
        if mine == whole:
            found += source[out]
        elif all(length == 1 for length in mine):
            found += [1] * len(source[out])
        else:
            return None
    return tuple(found)


def _groups(target: Shape, source: Shape) -> list[tuple[slice, slice]]:
    """Runs of dimensions of both that hold as many elements, as short as possible."""
    found: list[tuple[slice, slice]] = []
    i = j = 0
    while i < len(target) and j < len(source):
        start_i, start_j = i, j
        left, right = target[i], source[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left *= target[i]
                i += 1
            else:
                right *= source[j]
                j += 1
        found.append((slice(start_i, i), slice(start_j, j)))
    if not found:
        return [(slice(0, len(target)), slice(0, len(source)))]
    into, out = found[-1]  # dimensions of one at the end belong to the last run
    found[-1] = slice(into.start, len(target)), slice(out.start, len(source))
    return found


def distance(shape: Shape) -> int:
    """From the shape of a matrix, in which most operators are to compute."""
    return abs(len(shape) - 2)


def below(net: Net, node: Node, shape: Shape) -> None:
    """The operator makes a tensor of `shape`; what it made before becomes a view of that."""
    old = node.outputs[0]
    net.make(node, 0, net.fresh(old, shape))
    add_view(net, node.outputs[0], old)
