"""Constants by their value, those included that a model computes from nothing.

Weights of one value everywhere are spelt as a ConstantOfShape by some exporters; here they are
views of that one value, however large, until somebody needs a part of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.values import floats, store

_VIEWS = ("Identity", "Reshape", "Unsqueeze", "Squeeze")
_MOST_VIEWS = 8
"""Between a fill and who reads it: every operator of a long chain of views looks up through it."""
_STORED_BYTES = 64 * 1024
"""Above this a fill stays computed: it is one number in the file."""


def value_of(net: Net, name: str) -> npt.NDArray[Any] | None:
    """A float32 constant; a view of one element where it is a fill."""
    stored = floats(net, name)
    return stored if stored is not None else _filled(net, net.maker(name), name)


def replace_constant(net: Net, node: Node, position: int, value: npt.NDArray[Any]) -> None:
    """Lets an operator read another constant in place of one."""
    old = node.inputs[position]
    net.read(node, position, store(net, value, old))
    net.prune(old)


def store_fill(net: Net, node: Node) -> bool:
    """A small fill becomes a stored constant, which other rules see."""
    if node.kind not in ("ConstantOfShape", *_VIEWS) or len(node.outputs) != 1:
        return False
    name = node.outputs[0]
    if name in net.pinned or not net.readers(name):
        return False
    value = _filled(net, node, name)
    if value is None or value.nbytes > _STORED_BYTES:
        return False
    stored = net.fresh(name, value.shape)
    net.constants[stored] = numpy_helper.from_array(np.ascontiguousarray(value), stored)
    net.redirect(name, stored)
    net.prune(name)
    return True


def _filled(net: Net, node: Node | None, name: str) -> npt.NDArray[Any] | None:
    shape = net.shape(name)
    for _ in range(_MOST_VIEWS):
        if node is None or node.kind not in _VIEWS:
            break
        node = net.maker(node.inputs[0])
    if node is None or shape is None or node.kind != "ConstantOfShape":
        return None
    asked = net.integers(node.inputs[0])
    if asked is None or tuple(asked.tolist()) != net.shape(node.outputs[0]):
        return None
    given = node.attribute("value")
    value = np.zeros(1, np.float32) if given is None else numpy_helper.to_array(given).reshape(-1)
    return np.broadcast_to(value, shape) if value.dtype == np.float32 else None
