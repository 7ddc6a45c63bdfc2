"""Reductions, softmax and what else looks along axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from planner.ops import index
from planner.ops.builder import Builder, Lower, Node, NotCovered, axes_of, axis_of
from planner.ops.expr import Bound, Expr, Index, Load, apply, number
from planner.ops.index import Affine
from planner.ops.nest import Reducer, TensorType


def _square(x: Expr) -> Expr:
    return apply("mul", x, x)


def _same(x: Expr) -> Expr:
    return x


_REDUCTIONS: dict[str, tuple[Reducer, Callable[[Expr], Expr], str | None]] = {
    "ReduceSum": (Reducer.SUM, _same, None),
    "ReduceMean": (Reducer.SUM, _same, "mean"),
    "ReduceMax": (Reducer.MAX, _same, None),
    "ReduceMin": (Reducer.MIN, _same, None),
    "ReduceProd": (Reducer.PROD, _same, None),
    "ReduceL1": (Reducer.SUM, lambda x: apply("abs", x), None),
    "ReduceL2": (Reducer.SUM, _square, "sqrt"),
    "ReduceSumSquare": (Reducer.SUM, _square, None),
    "ReduceLogSum": (Reducer.SUM, _same, "log"),
}


def reduce_axes(
    builder: Builder,
    source: str,
    axes: Sequence[int],
    reducer: Reducer,
    body: Callable[[Expr], Expr] = _same,
    *,
    dtype: str | None = None,
) -> str:
    """A new tensor with `axes` of `source` reduced and kept as size 1."""
    shape = builder.shape(source)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))

    def element(*at: Affine) -> Expr:
        outer, inner = at[: len(shape)], iter(at[len(shape) :])
        position = [next(inner) if axis in axes else outer[axis] for axis in range(len(shape))]
        return body(Load(source, tuple(position)))

    extents = [shape[axis] for axis in sorted(axes)]
    type_ = TensorType(dtype or builder.dtype(source), kept)
    return builder.reduce(builder.fresh(source), reducer, extents, element, type_)


def at_kept(at: Sequence[Affine], axes: Sequence[int]) -> tuple[Affine, ...]:
    """The index into a tensor whose `axes` were reduced and kept."""
    return tuple(index.constant(0) if axis in axes else v for axis, v in enumerate(at))


def _reduce(builder: Builder, node: Node) -> None:
    reducer, body, behind = _REDUCTIONS[node.op_type]
    source = node.inputs[0]
    shape = builder.shape(source)
    axes = axes_of(builder, node, 1, len(shape))
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        raise NotCovered("a reduction over no axes", where=node.name)
    axes = tuple(sorted(axes)) if axes else tuple(range(len(shape)))
    reduced = reduce_axes(builder, source, axes, reducer, body)
    count = math.prod(shape[axis] for axis in axes)
    keeps = bool(node.attributes.get("keepdims", 1))

    def element(*at: Affine) -> Expr:
        given = iter(at)
        position = [
            index.constant(0) if axis in axes and not keeps else next(given)
            for axis in range(len(shape))
        ]
        value: Expr = Load(reduced, at_kept(position, axes))
        if behind == "mean":
            return apply("mul", value, number(1 / count))
        return value if behind is None else apply(behind, value)

    if behind == "mean" and "float" not in builder.dtype(source):
        raise NotCovered("a mean of integers", where=node.name)
    builder.map(node.outputs[0], element)


def _softmax_axes(builder: Builder, node: Node) -> tuple[int, ...]:
    rank = len(builder.shape(node.inputs[0]))
    if node.opset >= 13:
        return (axis_of(node, rank, -1),)
    return tuple(range(axis_of(node, rank, 1), rank))


def softmax(builder: Builder, source: str, target: str, axes: Sequence[int], *, log: bool) -> None:
    """exp(x - max) / sum, or its logarithm."""
    largest = reduce_axes(builder, source, axes, Reducer.MAX)

    def shifted(*at: Affine) -> Expr:
        return apply("sub", Load(source, tuple(at)), Load(largest, at_kept(at, axes)))

    type_ = TensorType(builder.dtype(source), builder.shape(source))
    power = builder.map(builder.fresh(target), lambda *at: apply("exp", shifted(*at)), type_)
    total = reduce_axes(builder, power, axes, Reducer.SUM)

    def element(*at: Affine) -> Expr:
        below = Load(total, at_kept(at, axes))
        if log:
            return apply("sub", shifted(*at), apply("log", below))
        return apply("mul", Load(power, tuple(at)), apply("div", number(1.0), below))

    builder.map(target, element)


def _softmax(builder: Builder, node: Node) -> None:
    axes = _softmax_axes(builder, node)
    softmax(builder, node.inputs[0], node.outputs[0], axes, log=node.op_type == "LogSoftmax")


def _log_sum_exp(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    shape = builder.shape(source)
    axes = axes_of(builder, node, 1, len(shape)) or tuple(range(len(shape)))
    keeps = bool(node.attributes.get("keepdims", 1))
    largest = reduce_axes(builder, source, axes, Reducer.MAX)
    type_ = TensorType(builder.dtype(source), shape)
    power = builder.map(
        builder.fresh(source),
        lambda *at: apply(
            "exp", apply("sub", Load(source, tuple(at)), Load(largest, at_kept(at, axes)))
        ),
        type_,
    )
    total = reduce_axes(builder, power, axes, Reducer.SUM)

    def element(*at: Affine) -> Expr:
        given = iter(at)
        position = tuple(
            index.constant(0) if axis in axes and not keeps else next(given)
            for axis in range(len(shape))
        )
        where = at_kept(position, axes)
        return apply("add", apply("log", Load(total, where)), Load(largest, where))

    builder.map(node.outputs[0], element)


def _arg(builder: Builder, node: Node) -> None:
    """The first (or last) position of the largest value: two reductions."""
    source = node.inputs[0]
    shape = builder.shape(source)
    axis = axis_of(node, len(shape), 0)
    wanted = Reducer.MAX if node.op_type == "ArgMax" else Reducer.MIN
    best = reduce_axes(builder, source, (axis,), wanted)
    last = bool(node.attributes.get("select_last_index", 0))
    nowhere = number(-1 if last else shape[axis], "int64")
    keeps = bool(node.attributes.get("keepdims", 1))

    def element(*at: Affine) -> Expr:
        outer, r = list(at[:-1]), at[-1]
        if not keeps:
            outer.insert(axis, r)
        position = (*outer[:axis], r, *outer[axis + 1 :])
        value = Load(source, tuple(position))
        hit = apply("equal", value, Load(best, at_kept(position, (axis,))))
        return apply("where", hit, Index(r), nowhere)

    choose = Reducer.MAX if last else Reducer.MIN
    builder.reduce(node.outputs[0], choose, (shape[axis],), element)


def _cumsum(builder: Builder, node: Node) -> None:
    """out[i] = sum over r of x[i - r] where that exists: O(n^2), for short axes."""
    source = node.inputs[0]
    known = builder.known(node, 1)
    shape = builder.shape(source)
    axis = 0 if known is None else int(known.reshape(-1)[0]) % len(shape)
    size = shape[axis]
    if size > 512:
        raise NotCovered(f"CumSum over {size} values", where=node.name)
    skip = int(node.attributes.get("exclusive", 0))
    backwards = bool(node.attributes.get("reverse", 0))

    def element(*at: Affine) -> Expr:
        outer, r = at[:-1], at[-1] + skip
        where = outer[axis] + r if backwards else outer[axis] - r
        position = (*outer[:axis], where, *outer[axis + 1 :])
        return Load(source, tuple(position), (Bound(where, 0, size),))

    builder.reduce(node.outputs[0], Reducer.SUM, (size,), element)


def _lp_normalisation(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    axis = axis_of(node, len(builder.shape(source)), -1)
    order = int(node.attributes.get("p", 2))
    body = _square if order == 2 else _REDUCTIONS["ReduceL1"][1]
    total = reduce_axes(builder, source, (axis,), Reducer.SUM, body)

    def element(*at: Affine) -> Expr:
        below: Expr = Load(total, at_kept(at, (axis,)))
        below = apply("sqrt", below) if order == 2 else below
        ratio = apply("div", Load(source, tuple(at)), below)
        return apply("where", apply("equal", below, number(0.0)), number(0.0), ratio)

    builder.map(node.outputs[0], element)


FAMILY: Mapping[str, Lower] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(["Softmax", "LogSoftmax"], _softmax),
    **dict.fromkeys(["ArgMax", "ArgMin"], _arg),
    "ReduceLogSumExp": _log_sum_exp,
    "CumSum": _cumsum,
    "LpNormalization": _lp_normalisation,
}
