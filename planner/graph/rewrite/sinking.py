"""Views move until they meet and vanish: down where they lead away from a matrix, up where they
lead to one.

    x [25, 96] -> view [1, 25, 96] -> f -> g -> view [25, 96]     becomes     x -> f -> g

    elementwise, last axis    see `recount`
    reduction                 over the last axis, if the view keeps that axis
    concatenation             of views that leave the parts before and after the joined axis alike
    cuts                      (split, slice, look-up) along an axis that the view leaves alone
    look-up                   of indices under a view

A view with several readers stays for the others, so it moves down only where it has one reader or
leads away from a matrix: then the whole neighbourhood comes to compute on matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from planner.graph.rewrite.net import Net, Node, Shape
from planner.graph.rewrite.recount import (
    BROADCASTING,
    below,
    distance,
    is_recountable,
    recount,
    set_axis,
)
from planner.graph.rewrite.views import add_view, is_view, view_of

_SUMS = ("ReduceMean", "ReduceSum", "ReduceProd", "ReduceSumSquare", "ReduceLogSumExp")
_NORMS = ("ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
_REDUCTIONS = frozenset((*_SUMS, *_NORMS))


Movable = Callable[[Net, str], tuple[str, Shape] | None]
"""What the view that makes a tensor is a view of, if it may move below its reader."""


def sink(net: Net, node: Node) -> bool:
    """Moves a view above this operator below it, where that is the same; those that lead to a
    matrix stay."""
    return _sink(net, node, _leading_away)


def sink_all(net: Net, node: Node) -> bool:
    """The same with every view that nobody else reads, wherever it leads."""
    return _sink(net, node, _read_once)


def _sink(net: Net, node: Node, movable: Movable) -> bool:
    kind = node.kind
    if is_recountable(net, node):
        return _past_recountable(net, node, movable)
    if kind in _REDUCTIONS:
        return _past_reduction(net, node, movable)
    if kind == "Concat":
        return _past_concat(net, node)
    if kind == "Gather" and _past_lookup(net, node, movable):
        return True
    return kind in ("Split", "Slice", "Gather") and _past_cut(net, node, movable)


def hoist(net: Net, node: Node) -> bool:
    """Moves a view that takes dimensions away above the operator that makes what it views."""
    if not is_view(net, node):
        return False
    source, low = node.inputs[0], net.shapes[node.outputs[0]]
    above = net.maker(source)
    if above is None or distance(low) >= distance(net.shapes[source]):
        return False
    old = list(above.inputs)
    if not is_recountable(net, above) or not recount(net, above, low):
        return False
    for name in old:
        net.prune(name)
    return True


def _leading_away(net: Net, name: str) -> tuple[str, Shape] | None:
    found = view_of(net, name)
    if found is None or name in net.pinned:
        return None
    farther = distance(net.shapes[name]) - distance(found[1])
    return found if farther > 0 or (farther == 0 and len(net.readers(name)) == 1) else None


def _read_once(net: Net, name: str) -> tuple[str, Shape] | None:
    return view_of(net, name) if net.only_reader(name) is not None else None


def _past_recountable(net: Net, node: Node, movable: Movable) -> bool:
    high = net.shape(node.outputs[0])
    candidates = node.inputs if node.kind in BROADCASTING else node.inputs[:1]
    for name in list(candidates):
        found = movable(net, name) if high is not None else None
        if found is None or net.shapes[name] != high:
            continue
        old = list(node.inputs)
        if recount(net, node, found[1]):
            for other in old:
                net.prune(other)
            return True
    return False


def _past_reduction(net: Net, node: Node, movable: Movable) -> bool:
    """Over the last axis, which stays as a dimension of one."""
    name = node.inputs[0]
    found, axes = movable(net, name), _axes(net, node)
    if found is None or axes is None or not node.attribute("keepdims", 1):
        return False
    rank = len(net.shapes[name])
    if [axis % rank for axis in axes] != [rank - 1] or not found[1]:
        return False
    if found[1][-1] != net.shapes[name][-1]:
        return False
    last = [len(found[1]) - 1]
    if len(node.inputs) > 1:
        net.read(node, 1, net.constant(last, "axes"))
    for attribute in node.made.attribute:
        if attribute.name == "axes":
            attribute.ints[:] = last
    net.read(node, 0, found[0])
    below(net, node, (*found[1][:-1], 1))
    net.prune(name)
    return True


def _axes(net: Net, node: Node) -> list[int] | None:
    if len(node.inputs) > 1 and node.inputs[1]:
        found = net.integers(node.inputs[1])
        return None if found is None else found.tolist()
    axes = node.attribute("axes")
    return None if axes is None else [int(axis) for axis in axes]


def _past_concat(net: Net, node: Node) -> bool:
    """Joined along an axis, memory is: for each place before it, the rest of every part."""
    target = net.shape(node.outputs[0])
    axis = node.attribute("axis")
    parts = [view_of(net, name) or (name, net.shape(name)) for name in node.inputs]
    shapes = [shape for _, shape in parts if shape is not None]
    views = sum(net.maker(n) is not None and view_of(net, n) is not None for n in node.inputs)
    if target is None or axis is None or views < 2 or len(shapes) < len(parts):
        return False
    before = math.prod(target[: axis % len(target)])
    place = _joint(shapes, before)
    if place is None:
        return False
    old = list(node.inputs)
    for position, (source, _) in enumerate(parts):
        net.read(node, position, source)
    set_axis(node, place)
    joined = sum(shape[place] for shape in shapes)
    below(net, node, (*shapes[0][:place], joined, *shapes[0][place + 1 :]))
    for name in old:
        net.prune(name)
    return True


def _joint(shapes: list[Shape], before: int) -> int | None:
    """The axis along which tensors of these shapes join in memory behind `before` places."""
    first = shapes[0]
    if any(len(shape) != len(first) for shape in shapes):
        return None
    for place in range(len(first)):
        alike = all(
            shape[:place] == first[:place] and shape[place + 1 :] == first[place + 1 :]
            for shape in shapes
        )
        if alike and math.prod(first[:place]) == before:
            return place
    return None


def _past_lookup(net: Net, node: Node, movable: Movable) -> bool:
    """Indices under a view into the first axis of a table."""
    table, name = net.shape(node.inputs[0]), node.inputs[1]
    found = movable(net, name)
    if found is None or table is None or net.shape(node.outputs[0]) is None:
        return False
    if node.attribute("axis", 0) % len(table) != 0:
        return False
    net.read(node, 1, found[0])
    below(net, node, (*found[1], *table[1:]))
    net.prune(name)
    return True


def _past_cut(net: Net, node: Node, movable: Movable) -> bool:
    """Cuts along one axis that the view leaves where it is in memory."""
    name = node.inputs[0]
    found, axis = movable(net, name), cut_axis(net, node)
    made = [net.shape(output) for output in node.outputs]
    if found is None or axis is None or None in made:
        return False
    target, source = net.shapes[name], found[1]
    place = _same_axis(target, source, axis)
    if place is None:
        return False
    node = _cut_along(net, node, place)
    net.read(node, 0, found[0])
    for position, old in enumerate(list(node.outputs)):
        cut = net.shapes[old][axis : len(net.shapes[old]) - (len(target) - axis - 1)]
        net.make(node, position, net.fresh(old, (*source[:place], *cut, *source[place + 1 :])))
        add_view(net, node.outputs[position], old)
    net.prune(name)
    return True


def cut_axis(net: Net, node: Node) -> int | None:
    """The only axis along which a split, slice or look-up cuts; None where it cuts several."""
    shape, made = net.shape(node.inputs[0]), net.shape(node.outputs[0])
    if shape is None or made is None:
        return None
    if node.kind in ("Split", "Gather"):
        return int(node.attribute("axis", 0)) % len(shape)
    numbers = [net.integers(name) for name in node.inputs[1:] if name]
    if len(shape) != len(made) or len(numbers) < 2 or any(one is None for one in numbers):
        return None
    changed = [axis for axis, (a, b) in enumerate(zip(shape, made, strict=True)) if a != b]
    return changed[0] if len(changed) == 1 else None


def _same_axis(target: Shape, source: Shape, axis: int) -> int | None:
    """Where an axis of `target` lies in `source`, if as much lies before it and behind it."""
    for place, length in enumerate(source):
        before = math.prod(source[:place]) == math.prod(target[:axis])
        if before and length == target[axis]:
            return place
    return None


def _cut_along(net: Net, node: Node, axis: int) -> Node:
    """The same cut along another axis: the operator itself, or a new slice in its place."""
    if node.kind != "Slice":
        set_axis(node, axis)
        return node
    position = _position(net, node)
    ends = [net.integers(name) for name in node.inputs[1:3]]
    steps = net.integers(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] else None
    step = 1 if steps is None else int(steps[position])
    numbers = [*(int(values[position]) for values in ends if values is not None), axis, step]
    source, outputs = node.inputs[0], list(node.outputs)
    net.remove(node)
    return net.add("Slice", [source, *(net.constant([n], "cut") for n in numbers)], outputs)


def _position(net: Net, node: Node) -> int:
    """Where the axis that is cut stands among those that a slice names."""
    axis, rank = cut_axis(net, node), len(net.shapes[node.inputs[0]])
    axes = net.integers(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
    named = list(range(rank)) if axes is None else [int(a) % rank for a in axes]
    return named.index(axis or 0)
