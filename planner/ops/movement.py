"""Operators that only move elements: index maps, one guarded load an element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from planner.ops import index
from planner.ops.builder import (
    Builder,
    Lower,
    Node,
    NotCovered,
    axes_of,
    axis_of,
    broadcast,
    optional,
    scalar,
)
from planner.ops.expr import Bound, Const, Expr, Inside, Load, apply, number
from planner.ops.index import Affine
from planner.ops.nest import TensorType


def _reshape(builder: Builder, node: Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same elements in row-major order."""
    source = node.inputs[0]
    shape, target = builder.shape(source), builder.shape(node.outputs[0])
    builder.map(
        node.outputs[0],
        lambda *at: Load(source, index.unflatten(index.flatten(at, target), shape)),
    )


def _transpose(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    rank = len(builder.shape(source))
    order = list(node.attributes.get("perm") or range(rank - 1, -1, -1))
    builder.map(
        node.outputs[0],
        lambda *at: Load(source, tuple(at[order.index(axis)] for axis in range(rank))),
    )


def _expand(builder: Builder, node: Node) -> None:
    builder.map(node.outputs[0], lambda *at: broadcast(builder, node.inputs[0], at))


def _tile(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    shape = builder.shape(source)
    builder.map(
        node.outputs[0],
        lambda *at: Load(source, tuple(v % n for v, n in zip(at, shape, strict=True))),
    )


def _slice(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    shape = builder.shape(source)
    if "starts" in node.attributes:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes = node.attributes.get("axes", range(len(starts)))
        steps = [1] * len(starts)
    else:
        given = [builder.known(node, position) for position in range(1, 5)]
        if given[0] is None or given[1] is None:
            raise NotCovered("Slice without starts and ends", where=node.name)
        starts, ends = given[0].tolist(), given[1].tolist()
        axes = range(len(starts)) if given[2] is None else given[2].tolist()
        steps = [1] * len(starts) if given[3] is None else given[3].tolist()
    first, stride = [0] * len(shape), [1] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        chosen = range(shape[axis])[slice(start, end if abs(end) < 2**62 else None, step)]
        first[axis], stride[axis] = (chosen.start, chosen.step) if len(chosen) else (0, 1)
    builder.map(
        node.outputs[0],
        lambda *at: Load(
            source, tuple(v * s + f for v, s, f in zip(at, stride, first, strict=True))
        ),
    )


def _concat(builder: Builder, node: Node) -> None:
    axis = axis_of(node, len(builder.shape(node.outputs[0])), 0)
    sizes = [builder.shape(name)[axis] for name in node.inputs]
    builder.map(node.outputs[0], lambda *at: _pick(node.inputs, sizes, axis, at))


def _pick(names: Sequence[str], sizes: Sequence[int], axis: int, at: Sequence[Affine]) -> Expr:
    """The element of the part that holds it: parts behind each other along one axis."""
    start = sum(sizes)
    value: Expr | None = None
    for name, size in zip(reversed(names), reversed(sizes), strict=True):
        start -= size
        if size == 0:
            continue
        inside = Bound(at[axis] - start, 0, size)
        moved = (*at[:axis], at[axis] - start, *at[axis + 1 :])
        load = Load(name, tuple(moved), (inside,))
        value = load if value is None else apply("where", Inside((inside,)), load, value)
    return value if value is not None else number(0.0)


def _split(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    axis = axis_of(node, len(builder.shape(source)), 0)
    start = 0
    for name in node.outputs:
        if not name:
            raise NotCovered("Split with an output nobody reads", where=node.name)
        begin = start

        def body(*at: Affine, begin: int = begin) -> Expr:
            return Load(source, (*at[:axis], at[axis] + begin, *at[axis + 1 :]))

        builder.map(name, body)
        start += builder.shape(name)[axis]


def _pad(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    shape = builder.shape(source)
    listed = node.attributes.get("pads", node.attributes.get("paddings"))
    known = builder.known(node, 1) if listed is None else np.asarray(listed)
    if known is None:
        raise NotCovered("Pad without pads", where=node.name)
    axes = axes_of(builder, node, 3, len(shape)) or tuple(range(len(shape)))
    pads = known.reshape(-1).tolist()
    before = [0] * len(shape)
    for position, axis in enumerate(axes):
        before[axis] = int(pads[position])
    mode = node.attributes.get("mode", "constant")
    if mode in ("edge", "reflect"):
        _pad_by_axes(builder, node, before, mode)
        return
    if mode not in ("constant", "wrap"):
        raise NotCovered(f"Pad mode {mode}", where=node.name)
    name = optional(node, 2)
    fill = scalar(builder, name) if name else number(float(node.attributes.get("value", 0.0)))

    def body(*at: Affine) -> Expr:
        moved = tuple(v - b for v, b in zip(at, before, strict=True))
        if mode == "wrap":
            return Load(source, tuple(v % n for v, n in zip(moved, shape, strict=True)))
        return _filled(source, shape, moved, fill)

    builder.map(node.outputs[0], body)


def _filled(source: str, shape: Sequence[int], at: tuple[Affine, ...], fill: Expr) -> Expr:
    guards = tuple(Bound(value, 0, size) for value, size in zip(at, shape, strict=True))
    if isinstance(fill, Const):
        return Load(source, at, guards, float(fill.value))
    return apply("where", Inside(guards), Load(source, at, guards), fill)


def _pad_by_axes(builder: Builder, node: Node, before: Sequence[int], mode: str) -> None:
    """Edge and reflect padding, one axis after the other: together their cases would multiply."""
    source, target = node.inputs[0], node.outputs[0]
    shape, wanted = list(builder.shape(source)), builder.shape(target)
    axes = [axis for axis, b in enumerate(before) if b or shape[axis] != wanted[axis]] or [0]
    for axis in axes:
        size, shape[axis] = shape[axis], wanted[axis]

        def body(*at: Affine, source: str = source, axis: int = axis, size: int = size) -> Expr:
            moved = (*at[:axis], at[axis] - before[axis], *at[axis + 1 :])
            return _beyond(source, moved, axis, size, mode)

        made = TensorType(builder.dtype(source), tuple(shape))
        source = builder.map(target if axis == axes[-1] else builder.fresh(source), body, made)


def _beyond(source: str, at: tuple[Affine, ...], axis: int, size: int, mode: str) -> Expr:
    """An element, beyond either end of one axis that of the edge or of the mirror image."""
    position = at[axis]
    low, high = index.bounds(position)

    def put(moved: Affine) -> Load:
        at_edge = (*at[:axis], moved, *at[axis + 1 :])
        return Load(source, at_edge, (Bound(moved, 0, size),))

    edge = mode == "edge"
    value: Expr = put(position)
    first = put(index.constant(0)) if edge else put(position * -1)
    last = put(index.constant(size - 1)) if edge else put(position * -1 + 2 * (size - 1))
    value = apply("where", Inside((Bound(position, low, 0),)), first, value)
    return apply("where", Inside((Bound(position, size, high + 1),)), last, value)


def _depth_to_space(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    block = int(node.attributes["blocksize"])
    depth = builder.shape(node.outputs[0])[1]
    by_column = node.attributes.get("mode", "DCR") == "CRD"

    def body(n: Affine, c: Affine, y: Affine, x: Affine) -> Expr:
        tap = (y % block) * block + x % block
        channel = c * (block * block) + tap if by_column else tap * depth + c
        return Load(source, (n, channel, y // block, x // block))

    builder.map(node.outputs[0], body)


def _space_to_depth(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    block = int(node.attributes["blocksize"])
    depth = builder.shape(source)[1]
    by_column = node.attributes.get("mode", "DCR") == "CRD"

    def body(n: Affine, c: Affine, y: Affine, x: Affine) -> Expr:
        tap = c % (block * block) if by_column else c // depth
        channel = c // (block * block) if by_column else c % depth
        return Load(source, (n, channel, y * block + tap // block, x * block + tap % block))

    builder.map(node.outputs[0], body)


def _trilu(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    known = builder.known(node, 1)
    offset = 0 if known is None else int(known.reshape(-1)[0])
    rows, columns = builder.shape(source)[-2:]
    upper = bool(node.attributes.get("upper", 1))

    def body(*at: Affine) -> Expr:
        distance = at[-1] - at[-2]
        limits = (offset, columns + 1) if upper else (-rows, offset + 1)
        return Load(source, at, (Bound(distance, *limits),))

    builder.map(node.outputs[0], body)


FAMILY: Mapping[str, Lower] = {
    **dict.fromkeys(["Reshape", "Flatten", "Squeeze", "Unsqueeze"], _reshape),
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "Slice": _slice,
    "Concat": _concat,
    "Split": _split,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Trilu": _trilu,
}
