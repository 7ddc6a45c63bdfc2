"""Normalisations: statistics over some axes, then a scale and a shift."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from planner.ops.builder import Builder, Lower, Node, NotCovered, axis_of, broadcast, optional
from planner.ops.expr import Bound, Expr, Load, apply, number
from planner.ops.index import Affine
from planner.ops.nest import Reducer, TensorType
from planner.ops.reduction import at_kept, reduce_axes

Scale = Callable[[Sequence[Affine]], Expr]


def standardise(
    builder: Builder, source: str, axes: Sequence[int], epsilon: float
) -> Callable[[Sequence[Affine]], Expr]:
    """(x - mean) / sqrt(variance + epsilon) over `axes`; the variance is that of x - mean."""
    shape = builder.shape(source)
    share = number(1 / math.prod(shape[axis] for axis in axes))
    total = reduce_axes(builder, source, axes, Reducer.SUM, dtype="float32")
    kept = TensorType("float32", builder.shape(total))
    mean = builder.map(
        builder.fresh(source), lambda *at: apply("mul", Load(total, tuple(at)), share), kept
    )

    def centred(at: Sequence[Affine]) -> Expr:
        return apply("sub", Load(source, tuple(at)), Load(mean, at_kept(at, axes)))

    def element(*at: Affine) -> Expr:
        outer, inner = at[: len(shape)], iter(at[len(shape) :])
        position = [next(inner) if axis in axes else outer[axis] for axis in range(len(shape))]
        value = centred(position)
        return apply("mul", value, value)

    extents = [shape[axis] for axis in sorted(axes)]
    squares = builder.reduce(builder.fresh(source), Reducer.SUM, extents, element, kept)

    def scale(*at: Affine) -> Expr:
        variance = apply("mul", Load(squares, tuple(at)), share)
        return apply("rsqrt", apply("add", variance, number(epsilon)))

    inverse = builder.map(builder.fresh(source), scale, kept)
    return lambda at: apply("mul", centred(at), Load(inverse, at_kept(at, axes)))


def _affine(value: Expr, scale: Expr | None, shift: Expr | None) -> Expr:
    if scale is not None:
        value = apply("mul", value, scale)
    return value if shift is None else apply("add", value, shift)


def _layer(builder: Builder, node: Node) -> None:
    if len([name for name in node.outputs if name]) > 1:
        raise NotCovered("LayerNormalization with its statistics as outputs", where=node.name)
    source, scale, shift = node.inputs[0], node.inputs[1], optional(node, 2)
    rank = len(builder.shape(source))
    axes = tuple(range(axis_of(node, rank, -1), rank))
    element = standardise(builder, source, axes, float(node.attributes.get("epsilon", 1e-5)))
    builder.map(
        node.outputs[0],
        lambda *at: _affine(
            element(at),
            broadcast(builder, scale, at),
            broadcast(builder, shift, at) if shift else None,
        ),
    )


def _skip_layer(builder: Builder, node: Node) -> None:
    """com.microsoft SkipLayerNormalization: LayerNormalization(input + skip + bias)."""
    left, right, scale = node.inputs[:3]
    shift, bias = optional(node, 3), optional(node, 4)
    if any(node.outputs[1:3]):
        raise NotCovered("SkipLayerNormalization with its statistics as outputs", where=node.name)

    def total(*at: Affine) -> Expr:
        value = apply("add", broadcast(builder, left, at), broadcast(builder, right, at))
        return apply("add", value, broadcast(builder, bias, at)) if bias else value

    shape = builder.shape(node.outputs[0])
    name = node.outputs[3] if len(node.outputs) > 3 and node.outputs[3] else None
    summed = builder.map(name or builder.fresh(left), total, TensorType(builder.dtype(left), shape))
    axes = (len(shape) - 1,)
    element = standardise(builder, summed, axes, float(node.attributes.get("epsilon", 1e-12)))
    builder.map(
        node.outputs[0],
        lambda *at: _affine(
            element(at),
            broadcast(builder, scale, at),
            broadcast(builder, shift, at) if shift else None,
        ),
    )


def _root_mean_square(builder: Builder, node: Node) -> None:
    """RMSNormalization: x / sqrt(mean(x^2) + epsilon) * scale."""
    source, scale = node.inputs[:2]
    rank = len(builder.shape(source))
    axes = tuple(range(axis_of(node, rank, -1), rank))
    share = number(1 / math.prod(builder.shape(source)[axis] for axis in axes))
    total = reduce_axes(
        builder, source, axes, Reducer.SUM, lambda x: apply("mul", x, x), dtype="float32"
    )
    epsilon = number(float(node.attributes.get("epsilon", 1e-5)))

    def element(*at: Affine) -> Expr:
        mean = apply("mul", Load(total, at_kept(at, axes)), share)
        inverse = apply("rsqrt", apply("add", mean, epsilon))
        value = apply("mul", Load(source, tuple(at)), inverse)
        return apply("mul", value, broadcast(builder, scale, at))

    builder.map(node.outputs[0], element)


def _batch(builder: Builder, node: Node) -> None:
    """x * s + (b - mean * s), s = scale / sqrt(variance + epsilon): folded where all are known."""
    if len([name for name in node.outputs if name]) > 1 or node.attributes.get("training_mode", 0):
        raise NotCovered("BatchNormalization in training mode", where=node.name)
    source, gamma, beta, mean, variance = node.inputs
    epsilon = number(float(node.attributes.get("epsilon", 1e-5)))
    type_ = TensorType("float32", builder.shape(gamma))

    def slope(c: Affine) -> Expr:
        inverse = apply("rsqrt", apply("add", Load(variance, (c,)), epsilon))
        return apply("mul", Load(gamma, (c,)), inverse)

    scale = builder.map(builder.fresh(gamma), slope, type_)
    shift = builder.map(
        builder.fresh(beta),
        lambda c: apply("sub", Load(beta, (c,)), apply("mul", Load(mean, (c,)), Load(scale, (c,)))),
        type_,
    )
    channel = 1 if len(builder.shape(source)) > 1 else 0
    builder.map(
        node.outputs[0],
        lambda *at: _affine(
            Load(source, tuple(at)), Load(scale, (at[channel],)), Load(shift, (at[channel],))
        ),
    )


def _instance(builder: Builder, node: Node) -> None:
    source, scale, shift = node.inputs
    rank = len(builder.shape(source))
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    element = standardise(builder, source, tuple(range(2, rank)), epsilon)
    builder.map(
        node.outputs[0],
        lambda *at: _affine(element(at), Load(scale, (at[1],)), Load(shift, (at[1],))),
    )


def _group(builder: Builder, node: Node) -> None:
    source, scale, shift = node.inputs
    shape = builder.shape(source)
    groups = int(node.attributes["num_groups"])
    inside = shape[1] // groups
    is_per_group = builder.shape(scale) == (groups,)  # operator set 18
    apart = (shape[0], groups, inside, *shape[2:])

    def regrouped(*at: Affine) -> Expr:
        return Load(source, (at[0], at[1] * inside + at[2], *at[3:]))

    grouped = builder.map(
        builder.fresh(source), regrouped, TensorType(builder.dtype(source), apart)
    )
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    element = standardise(builder, grouped, tuple(range(2, len(apart))), epsilon)

    def body(*at: Affine) -> Expr:
        split = (at[0], at[1] // inside, at[1] % inside, *at[2:])
        own = (split[1] if is_per_group else at[1],)
        return _affine(element(split), Load(scale, own), Load(shift, own))

    builder.map(node.outputs[0], body)


def _local_response(builder: Builder, node: Node) -> None:
    """LRN: x / (bias + alpha / size * sum of squares over neighbouring channels) ^ beta."""
    source = node.inputs[0]
    shape, size = builder.shape(source), int(node.attributes["size"])
    before = (size - 1) // 2

    def squares(*at: Affine) -> Expr:
        channel = at[1] + at[-1] - before
        value = Load(source, (at[0], channel, *at[2:-1]), (Bound(channel, 0, shape[1]),))
        return apply("mul", value, value)

    type_ = TensorType("float32", shape)
    total = builder.reduce(builder.fresh(source), Reducer.SUM, (size,), squares, type_)
    alpha = float(node.attributes.get("alpha", 1e-4)) / size
    bias, beta = (float(node.attributes.get(k, d)) for k, d in (("bias", 1.0), ("beta", 0.75)))

    def body(*at: Affine) -> Expr:
        below = apply("mul", Load(total, tuple(at)), number(alpha))
        below = apply("pow", apply("add", below, number(bias)), number(-beta))
        return apply("mul", Load(source, tuple(at)), below)

    builder.map(node.outputs[0], body)


FAMILY: Mapping[str, Lower] = {
    "LayerNormalization": _layer,
    "com.microsoft::SkipLayerNormalization": _skip_layer,
    "RMSNormalization": _root_mean_square,
    "SimplifiedLayerNormalization": _root_mean_square,
    "BatchNormalization": _batch,
    "InstanceNormalization": _instance,
    "GroupNormalization": _group,
    "LRN": _local_response,
}
