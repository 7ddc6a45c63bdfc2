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
    if top is None or node.outputs[0] in net.pinned or net.shape(node.outputs[0]) is None:
        return False
    readers = net.readers(node.outputs[0])
    if len(readers) != 1:
        return False
    product, divisor = readers[0], readers[0]
    if product.kind == "Mul" and _factor(net, product, node.outputs[0]) is None:
        users = net.readers(product.outputs[0])
        if len(users) != 1 or product.outputs[0] in net.pinned:
            return False
        divisor = users[0]
    factor = _factor(net, divisor, node.outputs[0] if divisor is product else product.outputs[0])
    if factor is None or not math.isclose(factor * top, 1.0, rel_tol=_SAME):
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


def _replace(net: Net, clip: Node, product: Node, divisor: Node, top: float) -> None:
    source, offset = clip.inputs[0], 0.0
    above = net.maker(source)
    added = operand(net, above, above.inputs[0]) if above and above.kind == "Add" else None
    if above is not None and added is None and above.kind == "Add":
        added = operand(net, above, above.inputs[1])
    value = scalar(net, added[0]) if added else None
    if above is not None and added is not None and value is not None:
        inner = above.inputs[1 - added[1]]
        if net.shape(inner) == net.shape(source):
            source, offset = inner, value
    passed, result = clip.outputs[0], divisor.outputs[0]
    old = clip.inputs[0]
    net.remove(clip)
    net.remove(divisor)
    if product is divisor:
        net.add("HardSigmoid", [source], [result], alpha=1.0 / top, beta=offset / top)
    else:
        opened = net.fresh(passed, net.shapes[passed])
        net.add("HardSigmoid", [source], [opened], alpha=1.0 / top, beta=offset / top)
        net.read(product, product.inputs.index(passed), opened)
        net.make(product, 0, result)
    net.prune(old)
