"""Operators that put channels elsewhere."""

from __future__ import annotations

from functools import partial

import numpy as np

from planner.graph.rewrite.channels.kept import Kept
from planner.graph.rewrite.channels.passing import Cut
from planner.graph.rewrite.channels.wires import Lanes, Wiring
from planner.graph.rewrite.net import Net, Node, Shape

_SWAP = (0, 2, 1)
_SIZED = ("Reshape", "Squeeze")
"""Operators whose result depends on sizes: without axes, a squeeze would take the one channel that
is left."""


def concatenation(net: Net, wiring: Wiring, node: Node) -> Cut | None:
    """Side by side along the axis of channels."""
    shape = net.shape(node.outputs[0])
    if shape is None or node.attribute("axis") not in (1, 1 - len(shape)):
        return None
    if not any(name in wiring.lanes for name in node.inputs):
        return None
    lanes = [wiring.found(name) for name in node.inputs]
    found = [one for one in lanes if one is not None and one.span == 1]
    if len(found) != len(lanes):
        return None
    wiring.lanes[node.outputs[0]] = Lanes(
        np.concatenate([one.wires for one in found]),
        np.concatenate([one.labels for one in found]),
    )
    return _nothing


def reshaping(net: Net, wiring: Wiring, node: Node) -> Cut | None:
    """Images put in rows, or rows made images of one pixel."""
    lanes, name = wiring.lanes.get(node.inputs[0]), node.outputs[0]
    before, after = net.shape(node.inputs[0]), net.shape(name)
    if lanes is None or before is None or after is None or len(after) < 2:
        return None
    if before[0] != after[0] or after[1] % before[1]:
        return None
    grown = after[1] // before[1]
    if grown > 1 and len(after) > 2:
        return None
    wiring.lanes[name] = Lanes(lanes.wires, lanes.labels, lanes.span * grown)
    return partial(_resize, node=node, shape=after) if node.kind in _SIZED else _nothing


def shuffled(net: Net, node: Node) -> tuple[tuple[Node, Node, Node], Shape] | None:
    """The three operators of a shuffle of channels that begins here, and how they are counted."""
    found = [node]
    for kind in ("Transpose", "Reshape"):
        reader = net.only_reader(found[-1].outputs[0])
        if reader is None or reader.kind != kind or reader.inputs[0] != found[-1].outputs[0]:
            return None
        found.append(reader)
    first, second, third = found
    before, between = net.shape(first.inputs[0]), net.shape(first.outputs[0])
    if before is None or between is None or len(between) != len(before) + 1:
        return None
    order = (*_SWAP, *range(3, len(between)))
    if tuple(second.attribute("perm", ())) != order or net.shape(third.outputs[0]) != before:
        return None
    if between[0] != before[0] or between[3:] != before[2:]:
        return None
    return (first, second, third), between[1:3]


def shuffling(wiring: Wiring, nodes: tuple[Node, Node, Node], grid: Shape) -> Cut | None:
    """Channels counted by rows are counted by columns."""
    source, name = nodes[0].inputs[0], nodes[-1].outputs[0]
    lanes = wiring.lanes.get(source)
    if lanes is None or lanes.span > 1:
        return None
    order = np.arange(len(lanes)).reshape(grid).T.reshape(-1)
    wiring.lanes[name] = Lanes(lanes.wires[order], lanes.labels[order])
    return partial(_shuffle, nodes=nodes, order=order.tolist())


def _nothing(net: Net, kept: Kept) -> None:
    """Channels go without a trace."""


def _resize(net: Net, kept: Kept, node: Node, shape: Shape) -> None:
    if not kept.is_cut(node.outputs[0]):
        return
    wanted = (shape[0], kept.size(node.outputs[0]), *shape[2:])
    source, name = node.inputs[0], node.outputs[0]
    net.remove(node)
    net.add("Reshape", [source, net.constant(wanted, f"{name}__shape")], [name])


def _shuffle(net: Net, kept: Kept, nodes: tuple[Node, Node, Node], order: list[int]) -> None:
    source, name = nodes[0].inputs[0], nodes[-1].outputs[0]
    if not kept.is_cut(source):
        return
    place = {channel: n for n, channel in enumerate(kept.of(source).tolist())}
    wanted = [place[order[channel]] for channel in kept.of(name).tolist()]
    for node in reversed(nodes):
        net.remove(node)
    if wanted == sorted(wanted):
        net.add("Identity", [source], [name])
        return
    net.add("Gather", [source, net.constant(wanted, f"{name}__order")], [name], axis=1)
