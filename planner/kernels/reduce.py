"""Reductions inside a tile: whole axes, loops over parts, unrolled windows; products elsewhere."""

from __future__ import annotations

import itertools
import math

from planner.kernels.emit import Emitter
from planner.kernels.expressions import COMBINE, FLOAT_TEXT, REDUCE_TEXT, WHOLE_TEXT
from planner.kernels.patterns import (
    MAX_SHORT,
    MAX_UNROLLED,
    Binding,
    as_product,
    is_line,
    is_window,
    place,
    power_of_two,
)
from planner.kernels.products import dot
from planner.kernels.scope import Value
from planner.kernels.text import other_text
from planner.ops import index
from planner.ops.index import Var
from planner.ops.nest import Nest, Reducer

MAX_TILE = 16384
"""Elements of one tile held in registers: 64 KiB of float32 over 128 to 256 threads."""


def reduce(e: Emitter, nest: Nest, binding: Binding) -> Value:
    """The reduced value of a nest at an index."""
    product = as_product(nest)
    if product is not None:
        made = dot(e, nest, product, binding)
        if made is not None:
            return made
    total = math.prod(var.extent for var in nest.reduce_axes)
    is_short = is_window(nest) and total <= MAX_UNROLLED
    if total <= MAX_SHORT or (is_short and not _is_axis(e, nest)):
        return _unrolled(e, nest, binding)
    if nest.reducer is Reducer.PROD:
        return _looped(e, nest, binding, total, 1)
    return _vector(e, nest, binding, total)


def _is_axis(e: Emitter, nest: Nest) -> bool:
    """Whether the taps of a window are an axis of the tile rather than written out."""
    return e.anchor is None and e.config.depth > 1 and is_line(nest)


# ---------------------------------------------------------------------- windows and short sums
def _unrolled(e: Emitter, nest: Nest, binding: Binding) -> Value:
    total: Value | None = None
    for taps in itertools.product(*(range(var.extent) for var in nest.reduce_axes)):
        fixed = {var: index.constant(tap) for var, tap in zip(nest.reduce_axes, taps, strict=True)}
        value = e.wide(e.value(nest.body.substitute({**binding, **fixed})))
        total = value if total is None else _combine(e, nest, total, value)
    assert total is not None
    return total


def _combine(e: Emitter, nest: Nest, left: Value, right: Value) -> Value:
    assert nest.reducer is not None
    table = FLOAT_TEXT if left.is_float else WHOLE_TEXT
    axes = e.union((left.axes, right.axes))
    text = table[COMBINE[nest.reducer]].format(e.over(left, axes), e.over(right, axes))
    return e.make(text, (left, right), left.dtype)


# ---------------------------------------------------------------------- whole axes
def _vector(e: Emitter, nest: Nest, binding: Binding, total: int) -> Value:
    used = frozenset().union(*(index.variables(value) for value in binding.values()))
    for var in (*reversed(e.active), *e.full):
        if var in e.full and var.extent == total and var not in used:
            return _over_full(e, nest, binding, var)
    held = math.prod(e.blocks[axis] for axis in e.union(e.variables[var].axes for var in used))
    block = power_of_two(total)
    if held * block > MAX_TILE:
        chunk = max(MAX_TILE // max(held, 1) // 2, 16)
        return _looped(e, nest, binding, total, min(chunk, block))
    var = e.fresh_var(total, "r")
    axis = e.scopes.fresh("R")
    e.add_axis(axis, block)
    e.bind(var, f"tl.arange(0, {block})", (axis,), 0)
    if block > total:
        e.note_overrun(var)
    e.full[var] = (axis,)
    return _over_full(e, nest, binding, var)


def _over_full(e: Emitter, nest: Nest, binding: Binding, var: Var) -> Value:
    """A reduction over a variable of which the tile holds every value."""
    value = e.wide(e.value(nest.body.substitute(place(nest, binding, index.variable(var)))))
    axes = e.variables[var].axes
    if not set(axes) <= set(value.axes):
        return _repeated(e, nest, value, var.extent)
    value = masked(e, nest, value, var)
    return collapse(e, nest, value, axes)


def _repeated(e: Emitter, nest: Nest, value: Value, times: int) -> Value:
    """A reduction over something that does not change."""
    if nest.reducer is Reducer.SUM:
        return e.make(f"{value.name} * {times}", (value,), value.dtype)
    return value


def masked(e: Emitter, nest: Nest, value: Value, var: Var) -> Value:
    """The value with what changes nothing where the variable runs past its extent."""
    mask = e.mask((), (var,))
    if mask is None or nest.reducer is None:
        return value
    axes = e.union((value.axes, mask.axes))
    neutral = neutral_text(nest.reducer, value)
    text = f"tl.where({e.over(mask, axes)}, {e.over(value, axes)}, {neutral})"
    return e.make(text, (value, mask), value.dtype)


def neutral_text(reducer: Reducer, value: Value) -> str:
    """The neutral element in the value's own type."""
    if value.is_float:
        return other_text(reducer.neutral, "float32")
    return {"sum": "0", "max": "-2147483648", "min": "2147483647", "prod": "1"}[reducer.value]


def collapse(e: Emitter, nest: Nest, value: Value, axes: tuple[str, ...]) -> Value:
    """Reduces tile axes away, the last one first."""
    assert nest.reducer is not None
    for axis in sorted(axes, key=e.order.index, reverse=True):
        left = tuple(other for other in value.axes if other != axis)
        text = REDUCE_TEXT[nest.reducer].format(value.name, value.axes.index(axis))
        made = Value(e.scopes.fresh(), left, value.dtype, value.early, value.depth)
        value = e.scopes.define(None, text, made)
    return value


# ---------------------------------------------------------------------- loops
def _looped(e: Emitter, nest: Nest, binding: Binding, total: int, chunk: int) -> Value:
    """A loop over parts; the parts are joined elementwise, and reduced once at the end."""
    assert nest.reducer is not None
    counter = e.scopes.fresh("at")
    depth = e.scopes.push()
    var = e.fresh_var(total, "r")
    axes: tuple[str, ...] = ()
    if chunk > 1:
        axes = (e.scopes.fresh("R"),)
        e.add_axis(axes[0], chunk)
        e.bind(var, f"{counter} + tl.arange(0, {chunk})", axes, depth)
    else:
        e.bind(var, f"{counter} + 0", (), depth)
    if total % chunk:
        e.note_overrun(var)
    value = e.wide(e.value(nest.body.substitute(place(nest, binding, index.variable(var)))))
    value = masked(e, nest, value, var)
    spread = e.union((value.axes, axes))
    shape = ", ".join(str(e.blocks[axis]) for axis in spread)
    neutral = neutral_text(nest.reducer, value)
    kind = "tl.float32" if value.is_float else "tl.int32"
    initial = (
        f"tl.full(({shape},), {neutral}, {kind})" if spread else f"{neutral} + tl.zeros((), {kind})"
    )
    total_value = Value(e.scopes.fresh("acc"), spread, value.dtype, False, depth - 1)
    e.scopes.define(None, initial, total_value)
    table = FLOAT_TEXT if value.is_float else WHOLE_TEXT
    joined = table[COMBINE[nest.reducer]].format(total_value.name, e.over(value, spread))
    e.scopes.line(f"{total_value.name} = {joined}", depth, early=False)
    e.scopes.pop(f"for {counter} in range(0, {total}, {chunk}):", early=False)
    return collapse(e, nest, total_value, axes)
