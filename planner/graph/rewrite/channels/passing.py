"""Operators that work on each channel by itself: results are on the wires of what they read."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.graph.rewrite.channels.kept import Kept
from planner.graph.rewrite.channels.signatures import slices
from planner.graph.rewrite.channels.wires import Lanes, Wiring
from planner.graph.rewrite.fills import replace_constant, value_of
from planner.graph.rewrite.net import Net, Node

Cut = Callable[[Net, Kept], None]
Values = npt.NDArray[Any]
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
_GATES = ("Clip", "HardSigmoid", "HardSwish", "Mish", "Relu", "Sigmoid", "Tanh")
_BENT = ("Celu", "Elu", "LeakyRelu", "Selu", "Softplus", "Softsign")
UNARY = frozenset((*_POOLS, *_GATES, *_BENT, "Abs", "Erf", "Exp", "Identity", "Neg", "Sqrt"))
ELEMENTWISE = frozenset(("Add", "Div", "Max", "Min", "Mul", "PRelu", "Sub", "Sum"))
NORMALISING = frozenset(("BatchNormalization", "InstanceNormalization"))


def unary(net: Net, wiring: Wiring, node: Node) -> Cut | None:
    """Whatever else it reads are settings of the whole."""
    lanes = wiring.lanes.get(node.inputs[0])
    beside = any(name in wiring.lanes for name in node.inputs[1:])
    if lanes is None or beside or len(node.outputs) != 1:
        return None
    shapes = [net.shape(name) for name in (node.inputs[0], node.outputs[0])]
    if any(shape is None for shape in shapes):
        return None
    _pass(wiring, node, node.inputs[0], [()] * len(lanes))
    return _nothing


def elementwise(net: Net, wiring: Wiring, node: Node) -> Cut | None:
    """Of tensors with the same channels, and constants by channel or of the whole."""
    shape = net.shape(node.outputs[0])
    read = [name for name in node.inputs if name in wiring.lanes]
    if shape is None or len(shape) < 2 or not read:
        return None
    spans = {wiring.lanes[name].span for name in read}
    if len(spans) > 1 or any(not _matches(net.shape(name), shape) for name in read):
        return None
    rest = [(n, name) for n, name in enumerate(node.inputs) if name not in wiring.lanes]
    constants = {n: value_of(net, name) for n, name in rest}
    axes: dict[int, int] = {}
    signatures: list[tuple[Hashable, ...]] = [()] * len(wiring.lanes[read[0]])
    for n, value in constants.items():
        if value is None or value.ndim > len(shape):
            return None
        axis = value.ndim - len(shape) + 1
        if axis < 0 or value.shape[axis] == 1:
            continue
        if spans != {1}:
            return None
        axes[n] = axis
        added = zip(signatures, slices(value, axis), strict=True)
        signatures = [(*one, n, more) for one, more in added]
    for other in read[1:]:
        wiring.tie(read[0], other)
        labels = wiring.lanes[other].labels.tolist()
        signatures = [(*one, label) for one, label in zip(signatures, labels, strict=True)]
    _pass(wiring, node, read[0], signatures)
    return partial(_take, node=node, axes=axes)


def normalising(net: Net, wiring: Wiring, node: Node) -> Cut | None:
    """Every channel by numbers of its own."""
    lanes = wiring.lanes.get(node.inputs[0])
    if lanes is None or lanes.span > 1 or len(node.outputs) != 1:
        return None
    values = [value_of(net, name) for name in node.inputs[1:]]
    if any(value is None or value.shape != (len(lanes),) for value in values):
        return None
    columns = [slices(value, 0) for value in values if value is not None]
    _pass(wiring, node, node.inputs[0], list(zip(*columns, strict=True)))
    return partial(_take, node=node, axes=dict.fromkeys(range(1, len(node.inputs)), 0))


def depthwise(net: Net, wiring: Wiring, node: Node) -> Cut | None:
    """A convolution with a filter for each channel."""
    lanes = wiring.lanes.get(node.inputs[0])
    values = [value_of(net, name) for name in node.inputs[1:] if name]
    if lanes is None or lanes.span > 1 or any(value is None for value in values):
        return None
    if any(value is not None and len(value) != len(lanes) for value in values):
        return None
    columns = [slices(value, 0) for value in values if value is not None]
    _pass(wiring, node, node.inputs[0], list(zip(*columns, strict=True)))
    axes = {n: 0 for n, name in enumerate(node.inputs) if n and name}
    return partial(_take, node=node, axes=axes, is_grouped=True)


def _matches(shape: tuple[int, ...] | None, wanted: tuple[int, ...]) -> bool:
    return shape is not None and len(shape) == len(wanted) and shape[1] == wanted[1]


def _pass(wiring: Wiring, node: Node, source: str, signatures: list[tuple[Hashable, ...]]) -> None:
    lanes, name = wiring.lanes[source], node.outputs[0]
    pairs = zip(lanes.labels.tolist(), signatures, strict=True)
    labels = [wiring.label(name, label, *more) for label, more in pairs]
    wiring.lanes[name] = Lanes(lanes.wires, np.array(labels, np.int64), lanes.span)


def _nothing(net: Net, kept: Kept) -> None:
    """Channels go without a trace."""


def _take(
    net: Net, kept: Kept, node: Node, axes: dict[int, int], *, is_grouped: bool = False
) -> None:
    """Constants by channel lose what goes."""
    if not kept.is_cut(node.outputs[0]):
        return
    left = kept.of(node.outputs[0])
    for n, axis in axes.items():
        value = value_of(net, node.inputs[n])
        if value is not None:
            replace_constant(net, node, n, np.take(value, left, axis))
    if is_grouped:
        net.set_attribute(node, "group", len(left))
