"""Gates spelt out by exporters become the one operator they mean.

    clip(x + 3, 0, 6) / 6            becomes      HardSigmoid(x)         slope 1/6, offset 1/2
    x · clip(x + 3, 0, 6) / 6        becomes      x · HardSigmoid(x)     the hard swish

Any offset and any upper end h do: clip(x + b, 0, h) / h = clip(x / h + b / h, 0, 1). Exporters
whose operator sets lack the hard swish write it with four operators, each a pass over memory.
"""

from __future__ import annotations

import math

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.values import operand, scalar

_SAME = 1e-6
"""Relative: constants are rounded to float32, half of whose last place is 6e-8."""


def gate(net: Net, node: Node) -> bool:
    """Replaces a clip between 0 and h, and what divides it or its product by h."""
    top = _top(net, node)
    clipped = node.outputs[0]
    reader = net.only_reader(clipped) if top is not None else None
    if top is None or reader is None or net.shape(clipped) is None:
        return False
    product = reader if reader.kind == "Mul" and _factor(net, reader, clipped) is None else None
    if product is not None and product.inputs.count(clipped) != 1:
        return False  # a square
    scaled = product.outputs[0] if product is not None else clipped
    divisor = net.only_reader(scaled)
    factor = _factor(net, divisor, scaled) if divisor is not None else None
    if divisor is None or factor is None or not math.isclose(factor * top, 1.0, rel_tol=_SAME):
        return False
    _replace(net, node, product, divisor, top)
    return True


def _top(net: Net, node: Node) -> float | None:
    """The upper end of a clip whose lower end is 0."""
    if node.kind != "Clip":
        return None
    if len(node.inputs) == 3:
        low, high = (scalar(net, name) for name in node.inputs[1:])
    else:
        low, high = node.attribute("min"), node.attribute("max")
    if low != 0 or high is None or not 0 < high < math.inf:
        return None
    return float(high)


def _factor(net: Net, node: Node, name: str) -> float | None:
    """What an operator multiplies a tensor by, where that is one constant number."""
    found = operand(net, node, name)
    value = scalar(net, found[0]) if found else None
    if found is None or value is None or net.shape(name) != net.shape(node.outputs[0]):
        return None
    if node.kind == "Mul":
        return value
    return 1.0 / value if node.kind == "Div" and found[1] == 1 and value else None


def _replace(net: Net, clip: Node, product: Node | None, divisor: Node, top: float) -> None:
    source, offset = _shifted(net, clip.inputs[0])
    (old, *_), passed, result = clip.inputs, clip.outputs[0], divisor.outputs[0]
    net.remove(clip)
    net.remove(divisor)
    opened = result if product is None else net.fresh(passed, net.shapes[passed])
    net.add("HardSigmoid", [source], [opened], alpha=1.0 / top, beta=offset / top)
    if product is not None:
        net.read(product, product.inputs.index(passed), opened)
        net.make(product, 0, result)
    net.prune(old)


def _shifted(net: Net, name: str) -> tuple[str, float]:
    """A tensor as another one plus a number: itself plus 0 where it is not made so."""
    above = net.maker(name)
    if above is None or above.kind != "Add":
        return name, 0.0
    for inner in above.inputs:
        found = operand(net, above, inner)
        value = scalar(net, found[0]) if found else None
        if value is not None and net.shape(inner) == net.shape(name):
            return inner, value
    return name, 0.0
