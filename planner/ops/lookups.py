"""Operators that select by an index read from a tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from planner.ops import index
from planner.ops.builder import Builder, Lower, Node, NotCovered, axis_of
from planner.ops.expr import Cast, Expr, Index, Load, apply, number
from planner.ops.index import Affine


def position_of(builder: Builder, name: str, at: Sequence[Affine], size: int) -> Affine:
    """An index read from an integer tensor; negative ones count from the end."""
    known = builder.constant(name)
    if known is not None and known.size == 1:
        value = int(known.reshape(-1)[0])
        return index.constant(value + size if value < 0 else value)
    raw = Load(name, tuple(at))
    if known is not None and known.size and known.min() >= 0:
        return index.datum(raw, size)
    zero, whole = number(0, "int64"), number(size, "int64")
    wrapped = apply("where", apply("less", raw, zero), apply("add", raw, whole), raw)
    return index.datum(wrapped, size)


def _gather(builder: Builder, node: Node) -> None:
    source, indices = node.inputs
    shape, inner = builder.shape(source), builder.shape(indices)
    axis = axis_of(node, len(shape), 0)

    def body(*at: Affine) -> Expr:
        chosen = position_of(builder, indices, at[axis : axis + len(inner)], shape[axis])
        return Load(source, (*at[:axis], chosen, *at[axis + len(inner) :]))

    builder.map(node.outputs[0], body)


def _gather_elements(builder: Builder, node: Node) -> None:
    source, indices = node.inputs
    shape = builder.shape(source)
    axis = axis_of(node, len(shape), 0)

    def body(*at: Affine) -> Expr:
        chosen = position_of(builder, indices, at, shape[axis])
        return Load(source, (*at[:axis], chosen, *at[axis + 1 :]))

    builder.map(node.outputs[0], body)


def _gather_nd(builder: Builder, node: Node) -> None:
    source, indices = node.inputs
    shape, inner = builder.shape(source), builder.shape(indices)
    shared, depth = int(node.attributes.get("batch_dims", 0)), inner[-1]

    def body(*at: Affine) -> Expr:
        where = at[: len(inner) - 1]
        chosen = tuple(
            position_of(builder, indices, (*where, index.constant(d)), shape[shared + d])
            for d in range(depth)
        )
        return Load(source, (*at[:shared], *chosen, *at[len(inner) - 1 :]))

    if builder.constant(indices) is not None and math.prod(inner) == 1:
        raise NotCovered("GatherND at a single known position", where=node.name)
    builder.map(node.outputs[0], body)


def _one_hot(builder: Builder, node: Node) -> None:
    indices, depth_name, values = node.inputs
    known, pair = builder.constant(depth_name), builder.constant(values)
    if known is None or pair is None or "float" not in builder.dtype(node.outputs[0]):
        raise NotCovered("OneHot with computed depth or values, or of integers", where=node.name)
    depth = int(known.reshape(-1)[0])
    axis = axis_of(node, len(builder.shape(node.outputs[0])), -1)
    off, on = (number(float(item)) for item in pair)

    def body(*at: Affine) -> Expr:
        raw: Expr = Load(indices, (*at[:axis], *at[axis + 1 :]))
        if "float" in builder.dtype(indices):
            raw = Cast("int64", raw)
        wrapped = apply("add", raw, number(depth, "int64"))
        position = apply("where", apply("less", raw, number(0, "int64")), wrapped, raw)
        return apply("where", apply("equal", position, Index(at[axis])), on, off)

    builder.map(node.outputs[0], body)


FAMILY: Mapping[str, Lower] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
}
