"""Operators that only change how a tensor's elements are counted: merged, dropped, moved down.

    x -> Reshape -> Relu -> Reshape -> y      becomes      x -> Relu -> y

A view is any operator whose output holds the same elements in the same order: reshapes of every
kind, and transpositions that move nothing but dimensions of one.
"""

from __future__ import annotations

import math

from planner.graph.rewrite.net import Net, Node, Shape

_RESHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


def is_view(net: Net, node: Node | None) -> bool:
    """Whether it is one, of fixed shapes."""
    if node is None or node.kind not in (*_RESHAPES, "Transpose"):
        return False
    source, target = net.shape(node.inputs[0]), net.shape(node.outputs[0])
    if source is None or target is None or math.prod(source) != math.prod(target):
        return False
    return node.kind in _RESHAPES or _keeps_order(node, source)


def _keeps_order(node: Node, source: Shape) -> bool:
    order = node.attribute("perm") or list(range(len(source)))[::-1]
    moved = [axis for axis in order if source[axis] != 1]
    return moved == sorted(moved)


def view_of(net: Net, name: str) -> tuple[str, Shape] | None:
    """What a tensor is a view of, with that one's shape."""
    node = net.maker(name)
    if node is None or not is_view(net, node):
        return None
    source = node.inputs[0]
    return source, net.shapes[source]


def add_view(net: Net, source: str, target: str) -> None:
    """Makes `target`, whose shape is known, from `source`."""
    shape = net.shapes[target]
    net.add("Reshape", [source, net.constant(shape, "shape")], [target])


def viewed(net: Net, source: str, shape: Shape) -> str:
    """A view of `source` in this shape: a constant's is a constant, an equal one itself."""
    if net.shapes[source] == shape:
        return source
    if source in net.constants:
        return net.recast(source, shape)
    above = view_of(net, source)
    if above is not None and above[1] == shape:
        return above[0]
    for reader in net.readers(source):
        made = reader.outputs[0]
        if is_view(net, reader) and net.shapes[made] == shape and made not in net.pinned:
            return made
    target = net.fresh(source, shape)
    add_view(net, source, target)
    return target


def merge(net: Net, node: Node) -> bool:
    """A view of a view is one view; a view in the same shape is none."""
    if not is_view(net, node):
        return False
    source, target = node.inputs[0], node.outputs[0]
    above = view_of(net, source)
    root = source if above is None else above[0]
    if net.shapes[root] == net.shapes[target]:
        if target not in net.pinned:
            net.redirect(target, root)
            net.prune(target)
            return True
        if _take_name(net, node, root):
            net.prune(source)
            return True
    if above is None:
        return False
    net.remove(node)
    add_view(net, root, target)
    net.prune(source)
    return True


def _take_name(net: Net, node: Node, root: str) -> bool:
    """Lets the maker of `root` make it under the name that this view, of the same shape, gives."""
    maker = net.maker(root)
    if maker is None or root in net.pinned:
        return False
    target = node.outputs[0]
    net.remove(node)
    net.redirect(root, target)
    net.make(maker, maker.outputs.index(root), target)
    return True
