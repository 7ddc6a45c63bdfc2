"""Products: they sum over the channels that they read, and begin new ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.graph.rewrite.channels.kept import Kept
from planner.graph.rewrite.channels.passing import Cut
from planner.graph.rewrite.channels.signatures import slices
from planner.graph.rewrite.channels.wires import Wiring
from planner.graph.rewrite.fills import replace_constant, value_of
from planner.graph.rewrite.net import Net, Node

Values = npt.NDArray[Any]


def convolution(net: Net, wiring: Wiring, node: Node) -> Cut | None:
    """In one group or in several."""
    weight = value_of(net, node.inputs[1])
    if weight is None or net.shape(node.outputs[0]) is None:
        return None
    lanes = wiring.found(node.inputs[0])
    if lanes is None or lanes.span > 1:
        return None
    groups = int(node.attribute("group", 1))
    if weight.shape[1] * groups != len(lanes) or len(weight) % groups:
        return None
    of_group = lanes.labels.reshape(groups, -1)
    each = len(weight) // groups
    read = [tuple(of_group[channel // each].tolist()) for channel in range(len(weight))]
    return _begun(net, wiring, node, slices(weight, 0), read if groups > 1 else None)


def matrix(net: Net, wiring: Wiring, node: Node) -> Cut | None:
    """Rows times a constant matrix."""
    shape = net.shape(node.inputs[0])
    if shape is None or len(shape) != 2 or net.shape(node.outputs[0]) is None:
        return None
    weight = value_of(net, node.inputs[1])
    if node.attribute("transA", 0) or weight is None or weight.ndim != 2:
        return None
    out_axis = 0 if node.attribute("transB", 0) else 1
    if weight.shape[1 - out_axis] != shape[1] or wiring.found(node.inputs[0]) is None:
        return None
    return _begun(net, wiring, node, slices(weight, out_axis), None)


def _begun(
    net: Net,
    wiring: Wiring,
    node: Node,
    rows: list[bytes],
    read: list[tuple[int, ...]] | None,
) -> Cut | None:
    """New channels, each told by its weights, its bias and, in groups, what it reads."""
    parts: list[list[Any]] = [list(rows)]
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = value_of(net, node.inputs[2])
        if bias is None or bias.ndim == 0 or bias.size not in (1, len(rows)):
            return None
        if bias.size > 1 and bias.shape[-1] != len(rows):
            return None
        parts.append(slices(np.broadcast_to(bias.reshape(-1), (len(rows),)), 0))
    if read is not None:
        parts.append(read)
    wiring.begin(node.outputs[0], list(zip(*parts, strict=True)))
    wiring.summed.add(node.inputs[0])
    return partial(_cut, node=node)


def _cut(net: Net, kept: Kept, node: Node) -> None:
    source, made = node.inputs[0], node.outputs[0]
    if not (kept.is_cut(source) or kept.is_cut(made)):
        return
    weight = value_of(net, node.inputs[1])
    assert weight is not None  # it was there when its channels were told apart
    is_matrix = node.kind != "Conv"
    out_axis = 1 if is_matrix and not node.attribute("transB", 0) else 0
    left = kept.of(made)
    rows = np.take(weight, left, out_axis)
    if not is_matrix and int(node.attribute("group", 1)) > 1:
        rows = _ungrouped(rows, left, len(weight), int(node.attribute("group", 1)))
        net.set_attribute(node, "group", 1)
    folded = kept.folded(source, rows, 1 - out_axis)
    replace_constant(net, node, 1, folded)
    bias = value_of(net, node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if bias is not None and bias.size > 1:
        replace_constant(net, node, 2, np.take(bias, left, -1))


def _ungrouped(rows: Values, left: Values, channels: int, groups: int) -> Values:
    """Filters over the channels of all groups: zero but for their own."""
    width = rows.shape[1]
    made = np.zeros((len(rows), groups * width, *rows.shape[2:]), rows.dtype)
    for n, channel in enumerate(left.tolist()):
        start = channel // (channels // groups) * width
        made[n, start : start + width] = rows[n]
    return made


def grows(net: Net, kept: Kept, node: Node) -> bool:
    """Whether a convolution in groups would become more work as one of a single group."""
    groups = int(node.attribute("group", 1))
    source, made = node.inputs[0], node.outputs[0]
    if node.kind != "Conv" or groups == 1 or not (kept.is_cut(source) or kept.is_cut(made)):
        return False
    before = [net.shape(name) for name in (source, made)]
    if before[0] is None or before[1] is None:
        return True
    return kept.size(source) * kept.size(made) * groups > before[0][1] * before[1][1]
