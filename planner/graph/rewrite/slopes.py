"""A learnt slope for what is negative, between convolutions, becomes convolutions of one channel.

    PRelu(x; s)      becomes      s · x + Relu((1 - s) · x)           where no s > 1
                                  s · x + (1 - s) · Relu(x)           else
                                  LeakyRelu(x)                        where all s are one number

ONNX Runtime takes an element at a time for a PRelu, and changes the blocked layout of convolutions
back for it. Factors of channels stay in that layout as depthwise convolutions of one tap; the
activation and the sum are done by them. Between convolutions of 10 to 64 channels, images of 4 to
64 pixels that took 0.44 to 0.75 times as long, convolutions included (one thread, AVX-512).
"""

from __future__ import annotations

import numpy as np

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.values import Floats, by_channel, floats, store

_BLOCKED = ("Conv", "MaxPool", "AveragePool")
"""Operators that ONNX Runtime has in the blocked layout, and that feed activations or read them."""
_STEEPEST = 16.0
"""Slope up to which x is a sum of s · x and (1 - s) · x: it is off by as many last places."""


def straighten(net: Net, node: Node) -> bool:
    """Replaces a PRelu of images by operators that stay in the layout of convolutions."""
    slopes = bent(net, node)
    if slopes is None:
        return False
    source, target = node.inputs[0], node.outputs[0]
    net.remove(node)
    if (slopes == slopes[0]).all():
        net.add("LeakyRelu", [source], [target], alpha=float(slopes[0]))
        return True
    shape = net.shapes[source]
    straight, scaled, raised = (net.fresh(f"{target}__{part}", shape) for part in "abc")
    _scale(net, source, slopes, straight)
    if (slopes <= 1).all():
        _scale(net, source, 1 - slopes, scaled)
        net.add("Relu", [scaled], [raised])
    else:
        net.add("Relu", [source], [scaled])
        _scale(net, scaled, 1 - slopes, raised)
    net.add("Add", [straight, raised], [target])
    return True


def bent(net: Net, node: Node) -> Floats | None:
    """The slopes of a PRelu, one a channel, where it stands beside a convolution of images."""
    if node.kind != "PRelu" or len(net.shape(node.inputs[0]) or ()) != 4:
        return None
    source, name = node.inputs
    shape, value = net.shapes[source], floats(net, name)
    around = [net.maker(source), *net.readers(node.outputs[0])]
    if value is None or not any(one is not None and one.kind in _BLOCKED for one in around):
        return None
    found = by_channel(value, len(shape), 1, shape[1])
    if found is None or net.shape(node.outputs[0]) != shape:
        return None
    is_one = bool((found == found[0]).all())
    return found if is_one or np.abs(found).max() <= _STEEPEST else None


def _scale(net: Net, source: str, factors: Floats, target: str) -> None:
    """A depthwise convolution of one tap."""
    weight = store(net, factors.reshape(-1, 1, 1, 1), f"{target}__factors")
    net.add("Conv", [source, weight], [target], group=len(factors), kernel_shape=[1, 1])


__all__ = ["bent", "straighten"]
