"""Convolution, transposed convolution and pooling: guarded loads around a sum or a maximum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.ops.builder import Builder, Lower, Node, NotCovered, optional
from planner.ops.expr import Bound, Expr, Load, apply, number
from planner.ops.index import Affine
from planner.ops.nest import Reducer, TensorType


@dataclass(frozen=True, slots=True)
class Window:
    """How a window moves over the spatial dimensions."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    """Padding at the start of each dimension."""
    after: tuple[int, ...]

    def source(self, at: Sequence[Affine], taps: Sequence[Affine]) -> tuple[Affine, ...]:
        """Where a tap reads, padding not counted."""
        return tuple(
            value * stride + tap * dilation - pad
            for value, stride, tap, dilation, pad in zip(
                at, self.strides, taps, self.dilations, self.before, strict=True
            )
        )


def window(node: Node, kernel: Sequence[int], sizes: Sequence[int]) -> Window:
    """The window of Conv and pooling, automatic padding resolved."""
    rank = len(kernel)
    strides = tuple(node.attributes.get("strides") or (1,) * rank)
    dilations = tuple(node.attributes.get("dilations") or (1,) * rank)
    pads = list(node.attributes.get("pads") or (0,) * (2 * rank))
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic.startswith("SAME"):
        for axis in range(rank):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            steps = -(-sizes[axis] // strides[axis])
            total = max((steps - 1) * strides[axis] + reach - sizes[axis], 0)
            small, large = total // 2, total - total // 2
            first = small if automatic == "SAME_UPPER" else large
            pads[axis], pads[axis + rank] = first, total - first
    return Window(tuple(kernel), strides, dilations, tuple(pads[:rank]), tuple(pads[rank:]))


def _conv(builder: Builder, node: Node) -> None:
    """Groups are a dimension of their own, so that a group is a matrix product."""
    source, weight = node.inputs[:2]
    bias = optional(node, 2)
    shape, filters = builder.shape(source), builder.shape(weight)
    groups = int(node.attributes.get("group", 1))
    depth, made = filters[1], filters[0] // groups
    moves = window(node, filters[2:], shape[2:])
    target = builder.types[node.outputs[0]]
    rank = len(shape) - 2

    def body(*at: Affine) -> Expr:
        n, g, o = at[:3]
        space, c, taps = at[3 : 3 + rank], at[3 + rank], at[4 + rank :]
        where = moves.source(space, taps)
        guards = tuple(Bound(v, 0, size) for v, size in zip(where, shape[2:], strict=True))
        value = Load(source, (n, g * depth + c, *where), guards)
        return apply("mul", value, Load(weight, (g * made + o, c, *taps)))

    grouped = TensorType(target.dtype, (target.shape[0], groups, made, *target.shape[2:]))
    bare = builder.reduce(builder.fresh(source), Reducer.SUM, (depth, *moves.kernel), body, grouped)

    def element(*at: Affine) -> Expr:
        value: Expr = Load(bare, (at[0], at[1] // made, at[1] % made, *at[2:]))
        return value if bias is None else apply("add", value, Load(bias, (at[1],)))

    builder.map(node.outputs[0], element)


def _conv_transpose(builder: Builder, node: Node) -> None:
    """out[y] = sum over taps k with (y + pad - k d) a multiple of the stride."""
    source, weight = node.inputs[:2]
    bias = optional(node, 2)
    shape, filters = builder.shape(source), builder.shape(weight)
    groups, rank = int(node.attributes.get("group", 1)), len(shape) - 2
    depth, made = shape[1] // groups, filters[1]
    moves = window(node, filters[2:], shape[2:])
    target = builder.types[node.outputs[0]]
    before = _transposed_padding(node, moves, shape[2:], target.shape[2:])

    def body(*at: Affine) -> Expr:
        n, g, o = at[:3]
        space, c, taps = at[3 : 3 + rank], at[3 + rank], at[4 + rank :]
        guards, where = [], []
        for axis in range(rank):
            reach = space[axis] + before[axis] - taps[axis] * moves.dilations[axis]
            stride = moves.strides[axis]
            where.append(reach // stride)
            guards += [Bound(reach % stride, 0, 1), Bound(where[-1], 0, shape[2 + axis])]
        value = Load(source, (n, g * depth + c, *where), tuple(guards))
        return apply("mul", value, Load(weight, (g * depth + c, o, *taps)))

    grouped = TensorType(target.dtype, (target.shape[0], groups, made, *target.shape[2:]))
    bare = builder.reduce(builder.fresh(source), Reducer.SUM, (depth, *moves.kernel), body, grouped)

    def element(*at: Affine) -> Expr:
        value: Expr = Load(bare, (at[0], at[1] // made, at[1] % made, *at[2:]))
        return value if bias is None else apply("add", value, Load(bias, (at[1],)))

    builder.map(node.outputs[0], element)


def _transposed_padding(
    node: Node, moves: Window, sizes: Sequence[int], wanted: Sequence[int]
) -> tuple[int, ...]:
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        return (0,) * len(sizes)
    if automatic == "NOTSET" and "output_shape" not in node.attributes:
        return moves.before
    extra = node.attributes.get("output_padding") or (0,) * len(sizes)
    before = []
    for axis, size in enumerate(sizes):
        reach = (moves.kernel[axis] - 1) * moves.dilations[axis] + 1
        total = moves.strides[axis] * (size - 1) + extra[axis] + reach - wanted[axis]
        upper = automatic == "SAME_UPPER"
        before.append(total // 2 if upper else total - total // 2)
    return tuple(before)


def _pool(builder: Builder, node: Node) -> None:
    if len([name for name in node.outputs if name]) > 1:
        raise NotCovered(f"{node.op_type} with indices", where=node.name)
    source = node.inputs[0]
    shape, target = builder.shape(source), builder.types[node.outputs[0]]
    moves = window(node, node.attributes["kernel_shape"], shape[2:])
    rank = len(shape) - 2
    largest = node.op_type == "MaxPool"
    other = Reducer.MAX.neutral if largest else 0.0

    def load(*at: Affine) -> Expr:
        where = moves.source(at[2 : 2 + rank], at[2 + rank :])
        guards = tuple(Bound(v, 0, size) for v, size in zip(where, shape[2:], strict=True))
        return Load(source, (*at[:2], *where), guards, other)

    if largest:
        builder.reduce(node.outputs[0], Reducer.MAX, moves.kernel, load)
        return
    total = builder.reduce(builder.fresh(source), Reducer.SUM, moves.kernel, load, target)
    share = _shares(builder, node, moves, shape[2:], target.shape[2:])

    def element(*at: Affine) -> Expr:
        value = Load(total, tuple(at))
        if isinstance(share, float):
            return apply("mul", value, number(share))
        return apply("mul", value, Load(share, tuple(at[2:])))

    builder.map(node.outputs[0], element)


def _shares(
    builder: Builder, node: Node, moves: Window, sizes: Sequence[int], made: Sequence[int]
) -> float | str:
    """1 / (number of values averaged): one number, or a constant tensor over space.

    Values beyond the padded end (ceil_mode) never count; padding counts where the node says so.
    """

    padded = bool(node.attributes.get("count_include_pad", 0))
    counts = np.ones((), dtype=np.float64)
    for axis, size in enumerate(sizes):
        at = np.arange(made[axis])[:, None] * moves.strides[axis] - moves.before[axis]
        taps = at + np.arange(moves.kernel[axis])[None, :] * moves.dilations[axis]
        low = -moves.before[axis] if padded else 0
        high = size + moves.after[axis] if padded else size
        inside = ((taps >= low) & (taps < high)).sum(axis=1)
        counts = np.multiply.outer(counts, inside)
    shares = 1.0 / np.maximum(counts, 1)
    if np.all(shares == shares.reshape(-1)[0]):
        return float(shares.reshape(-1)[0])
    return builder.add_constant(node.outputs[0], shares.astype(np.float32))


def _global_pool(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    sizes = builder.shape(source)[2:]
    rank = len(sizes)
    target = builder.types[node.outputs[0]]
    largest = node.op_type == "GlobalMaxPool"

    def load(*at: Affine) -> Expr:
        return Load(source, (*at[:2], *at[2 + rank :]))

    if largest:
        builder.reduce(node.outputs[0], Reducer.MAX, sizes, load)
        return
    total = builder.reduce(builder.fresh(source), Reducer.SUM, sizes, load, target)
    share = number(1 / math.prod(sizes))
    builder.map(node.outputs[0], lambda *at: apply("mul", Load(total, tuple(at)), share))


FAMILY: Mapping[str, Lower] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
}
