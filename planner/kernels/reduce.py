"""Reductions inside a tile: matrix products, whole axes, loops over parts, unrolled windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from planner.kernels.emit import Emitter
from planner.kernels.expressions import COMBINE, FLOAT_TEXT, REDUCE_TEXT, WHOLE_TEXT
from planner.kernels.scope import Value
from planner.kernels.text import other_text
from planner.ops import index
from planner.ops.expr import Apply, Expr, Load, loads
from planner.ops.index import Affine, Var
from planner.ops.nest import Nest, Reducer

Binding = Mapping[Var, Affine]
MAX_UNROLLED = 64
"""Taps of a window written out one by one (7 x 7 pooling, depthwise kernels)."""
MAX_SHORT = 8
"""Values of any reduction written out one by one."""
MAX_TILE = 16384
"""Elements of one tile held in registers: 64 KiB of float32 over 128 to 256 threads."""
MIN_DEPTH = 8
"""Shorter sums of products are not worth a padded matrix instruction."""


def reduce(e: Emitter, nest: Nest, binding: Binding) -> Value:
    """The reduced value of a nest at an index."""
    product = as_product(nest)
    if product is not None:
        made = _dot(e, nest, product, binding)
        if made is not None:
            return made
    total = math.prod(var.extent for var in nest.reduce_axes)
    if total <= MAX_SHORT or (is_window(nest) and total <= MAX_UNROLLED):
        return _unrolled(e, nest, binding)
    if nest.reducer is Reducer.PROD:
        return _looped(e, nest, binding, total, 1)
    return _vector(e, nest, binding, total)


def as_product(nest: Nest) -> tuple[Expr, Expr] | None:
    """The factors of a sum of products."""
    if nest.reducer is not Reducer.SUM or not isinstance(nest.body, Apply):
        return None
    return (nest.body.args[0], nest.body.args[1]) if nest.body.fn == "mul" else None


def is_contraction(nest: Nest) -> bool:
    """Whether it is a product of matrices (or of a matrix and a vector) with a long sum.

    Each factor has axes of its own, or one of them has none at all; a depthwise convolution, whose
    factors share the channel, is none.
    """
    factors = as_product(nest)
    if factors is None or math.prod(var.extent for var in nest.reduce_axes) < MIN_DEPTH:
        return False
    axes = {var for var in nest.axes if var.extent > 1}
    left, right = (factor.variables() & axes for factor in factors)
    if not left or not right:
        return bool(left or right)
    return bool(left - right) and bool(right - left)


def is_window(nest: Nest) -> bool:
    """Whether what it reads moves along with the output: pooling, depthwise convolution."""
    inner, outer = set(nest.reduce_axes), set(nest.axes)
    for load in loads(nest.body):
        for value in load.index:
            used = index.variables(value)
            if used & inner and used & outer:
                return True
    return False


def instance(nest: Nest, binding: Binding) -> tuple[str, ...]:
    """A nest at an index, told from others."""
    return (nest.name, *(value.text for value in binding.values()))


def place(nest: Nest, binding: Binding, at: Affine) -> dict[Var, Affine]:
    """The binding with the reduction variables at a flat position."""
    extents = tuple(var.extent for var in nest.reduce_axes)
    inner = index.unflatten(at, extents)
    return {**binding, **dict(zip(nest.reduce_axes, inner, strict=True))}


def _at_tap(nest: Nest, binding: Binding, outer: Var, k: Var) -> dict[Var, Affine]:
    """The binding with the run at `k` and all other reduction variables at a flat position."""
    run = [var for var in nest.reduce_axes if var.extent > 1][-1]
    taps = tuple(var for var in nest.reduce_axes if var != run)
    at = index.unflatten(index.variable(outer), tuple(var.extent for var in taps))
    return {**binding, **dict(zip(taps, at, strict=True)), run: index.variable(k)}


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


# ---------------------------------------------------------------------- matrix products
@dataclass(frozen=True, slots=True)
class _Operands:
    name: str
    left: Expr
    right: Expr
    m: str
    n: str
    k: Var
    """What the tile spans of the sum."""
    outer: Var | None = None
    """Taps of a window around it, one at a time."""


def _dot(e: Emitter, nest: Nest, product: tuple[Expr, Expr], binding: Binding) -> Value | None:
    """tl.dot, where each factor has one tile axis of its own and they share none."""
    total = math.prod(var.extent for var in nest.reduce_axes)
    if total < MIN_DEPTH:
        return None
    known = e.joined.get(instance(nest, binding))
    if known is not None and not e.is_guarded:
        return known
    depth = e.depth_of(nest.name)
    inner = taps_and_run(nest)
    if inner is not None and depth <= inner and inner % depth == 0:
        k, outer = e.fresh_var(inner), e.fresh_var(total // inner, "t")
        operands = _operands(e, nest, product, binding, k, outer)
        if operands is None:
            return None
        return _dot_looped(e, operands, depth, beside=_beside(e, nest, binding, operands))
    k = e.fresh_var(total)
    operands = _operands(e, nest, product, binding, k)
    if operands is None:
        return None
    again = e.sums.get((nest.name, operands.m, operands.n))
    if again is not None:
        operands = _operands(e, nest, product, binding, again)
        assert operands is not None
    block = power_of_two(total)
    if block <= depth:
        split = _split(e, nest, total)
        if split > 1:
            return _summed(e, _dot_split(e, operands, split), operands)
        return _dot_whole(e, operands, max(block, 16))
    return _dot_looped(e, operands, depth, beside=_beside(e, nest, binding, operands))


def _split(e: Emitter, nest: Nest, total: int) -> int:
    """Parts that the whole sum of a product is taken in."""
    split = e.split_of(nest.name)
    fits = total % split == 0 and power_of_two(total // split) == total // split
    return split if fits else 1


def _beside(
    e: Emitter, nest: Nest, binding: Binding, operands: _Operands
) -> dict[tuple[str, ...], _Operands]:
    """Products not made yet that the loop of this one can make as well, this one the first."""
    own = instance(nest, binding)
    found = {own: operands}
    if own not in e.siblings or e.is_guarded or len(e.scopes.open) > 1:
        return found
    total = math.prod(var.extent for var in nest.reduce_axes)
    for key, (other, at) in e.siblings.items():
        product = as_product(other)
        size = math.prod(var.extent for var in other.reduce_axes)
        if key in e.joined or key in found or product is None or size != total:
            continue
        made = _operands(e, other, product, at, operands.k, operands.outer)
        if made is not None and (made.m, made.n) == (operands.m, operands.n):
            found[key] = made
    return found


def added(e: Emitter, first: Load, second: Load) -> Value | None:
    """The sum of two products split over the warps: their parts are added before the warps' are,
    which is a barrier instead of two. None where they are something else."""
    made: Value | None = None
    listed = []
    for load in (first, second):
        nest = e.internal.get(load.tensor)
        if nest is None or e.is_guarded or load.guards:
            return None
        binding = dict(zip(nest.axes, load.index, strict=True))
        product, total = as_product(nest), math.prod(var.extent for var in nest.reduce_axes)
        if product is None or instance(nest, binding) not in e.siblings:
            return None
        if power_of_two(total) > e.depth_of(nest.name) or taps_and_run(nest) is not None:
            return None
        split = _split(e, nest, total)
        operands = _operands(e, nest, product, binding, e.fresh_var(total))
        if operands is None or split == 1:
            return None
        again = e.sums.get((nest.name, operands.m, operands.n))
        if again is not None:
            operands = _operands(e, nest, product, binding, again)
            assert operands is not None
        listed.append((operands, split))
    (one, split), (other, parts) = listed
    if split != parts or (one.m, one.n) != (other.m, other.n):
        return None
    for operands, _ in listed:
        made = _dot_split(e, operands, split, made)
    assert made is not None
    return _summed(e, made, one)


def taps_and_run(nest: Nest) -> int | None:
    """Length of the run that a window reads at each tap; None where there are no taps."""
    long = [var for var in nest.reduce_axes if var.extent > 1]
    if len(long) < 2 or not is_window(nest):
        return None
    return long[-1].extent


def _operands(
    e: Emitter,
    nest: Nest,
    product: tuple[Expr, Expr],
    binding: Binding,
    k: Var,
    outer: Var | None = None,
) -> _Operands | None:
    """The factors over tile axes, the one whose axis comes first on the left."""
    if outer is None:
        where = place(nest, binding, index.variable(k))
    else:
        where = _at_tap(nest, binding, outer, k)
    left, right = (factor.substitute(where) for factor in product)
    if k not in left.variables() or k not in right.variables():
        return None
    axes = [
        e.union(e.variables[var].axes for var in factor.variables() if var not in (k, outer))
        for factor in (left, right)
    ]
    if len(axes[0]) != 1 or len(axes[1]) != 1 or axes[0] == axes[1]:
        return None
    m, n = axes[0][0], axes[1][0]
    if e.order.index(m) > e.order.index(n):
        left, right, m, n = right, left, n, m
    return _Operands(nest.name, left, right, m, n, k, outer)


def _dot_whole(e: Emitter, o: _Operands, block: int) -> Value:
    if o.k not in e.full:
        axis = e.scopes.fresh("K")
        e.add_axis(axis, block, before=o.n)
        e.bind(o.k, f"tl.arange(0, {block})", (axis,), 0)
        if block > o.k.extent:
            e.note_overrun(o.k)
        e.full[o.k] = (axis,)
        e.sums[o.name, o.m, o.n] = o.k
    (axis,) = e.full[o.k]
    left = operand(e, o.left, (o.m, axis), o.k)
    right = operand(e, o.right, (axis, o.n), o.k)
    text = f"tl.dot({left.name}, {right.name}{_precision(e)})"
    return _result(e, text, (left, right), (o.m, o.n))


def _dot_split(e: Emitter, o: _Operands, split: int, before: Value | None = None) -> Value:
    """The sum in `split` parts, one a group of warps, still to be added; on top of another's."""
    if o.k not in e.full:
        axes = e.scopes.fresh("S"), e.scopes.fresh("K")
        part = o.k.extent // split
        e.add_axis(axes[0], split, before=o.m)
        e.add_axis(axes[1], part, before=o.n)
        text = f"tl.arange(0, {split})[:, None] * {part} + tl.arange(0, {part})[None, :]"
        e.bind(o.k, text, axes, 0)
        e.full[o.k] = axes
        e.sums[o.name, o.m, o.n] = o.k
    outer, inner = e.full[o.k]
    left = operand(e, o.left, (outer, o.m, inner), o.k)
    right = operand(e, o.right, (outer, inner, o.n), o.k)
    onto = "" if before is None else f", {before.name}"
    text = f"tl.dot({left.name}, {right.name}{onto}{_precision(e)})"
    parts = (left, right) if before is None else (left, right, before)
    return _result(e, text, parts, (outer, o.m, o.n))


def _summed(e: Emitter, parts: Value, o: _Operands) -> Value:
    """The parts of a split sum, added."""
    return _result(e, f"tl.sum({parts.name}, axis=0)", (parts,), (o.m, o.n))


def _dot_looped(
    e: Emitter, o: _Operands, block: int, *, beside: Mapping[tuple[str, ...], _Operands]
) -> Value:
    """A loop over the sum; other products over the same sum come along, each with its own tile."""
    axis, counter = e.scopes.fresh("K"), e.scopes.fresh("at")
    depth = e.scopes.push()
    e.add_axis(axis, block, before=o.n)
    total_depth = o.k.extent
    if o.outer is None:
        e.bind(o.k, f"{counter} + tl.arange(0, {block})", (axis,), depth)
    else:
        total_depth *= o.outer.extent
        # Not `%`: Triton 3.6 loses its alignment, and then loads nothing ahead.
        tap = e.bind(o.outer, f"{counter} // {o.k.extent}", (), depth)
        start = f"({counter} - {tap.name} * {o.k.extent})"
        e.bind(o.k, f"{start} + tl.arange(0, {block})", (axis,), depth)
    if o.k.extent % block:
        e.note_overrun(o.k)
    shape = f"({e.blocks[o.m]}, {e.blocks[o.n]})"
    totals: dict[tuple[str, ...], Value] = {}
    for key, one in beside.items():
        left = operand(e, one.left, (o.m, axis), o.k)
        right = operand(e, one.right, (axis, o.n), o.k)
        total = Value(e.scopes.fresh("acc"), (o.m, o.n), "float32", False, depth - 1)
        e.scopes.define(None, f"tl.zeros({shape}, tl.float32)", total)
        text = f"tl.dot({left.name}, {right.name}, {total.name}{_precision(e)})"
        e.scopes.line(f"{total.name} = {text}", depth, early=False)
        totals[key] = total
    steps = f"tl.range(0, {total_depth}, {block}, num_stages={e.pipeline})"
    e.scopes.pop(f"for {counter} in {steps}:", early=False)
    if len(totals) > 1:
        e.joined |= totals
    return next(iter(totals.values()))


def _precision(e: Emitter) -> str:
    return f', input_precision="{e.precision}"' if e.product_type == "float32" else ""


def _result(e: Emitter, text: str, parts: tuple[Value, ...], axes: tuple[str, ...]) -> Value:
    depth = max(part.depth for part in parts)
    early = all(part.early for part in parts)
    made = Value(e.scopes.fresh("d"), axes, "float32", early, depth)
    return e.scopes.define(None, text, made)


def operand(e: Emitter, factor: Expr, axes: tuple[str, ...], k: Var) -> Value:
    """A factor as tl.dot takes it: all axes, zero past the end of the sum, in the product type."""
    e.active.append(k)
    value = e.value(factor)
    e.active.pop()
    ordered = e.union((axes,))
    loaded = isinstance(factor, Load) and factor.tensor not in e.internal
    if not loaded:
        mask = e.mask((), (k,))
        if mask is not None:
            spread = e.union((value.axes, mask.axes))
            text = f"tl.where({e.over(mask, spread)}, {e.over(value, spread)}, 0.0)"
            value = e.make(text, (value, mask), value.dtype)
    if value.dtype != e.product_type:
        value = e.make(f"{value.name}.to(tl.{e.product_type})", (value,), e.product_type)
    if value.axes != ordered:
        shape = ", ".join(str(e.blocks[axis]) for axis in ordered)
        made = Value(e.scopes.fresh(), ordered, value.dtype, value.early, value.depth)
        text = f"tl.broadcast_to({e.over(value, ordered)}, ({shape}))"
        value = e.scopes.define(None, text, made)
    if ordered == axes:
        return value
    turned = ", ".join(str(ordered.index(axis)) for axis in axes)
    made = Value(e.scopes.fresh(), axes, value.dtype, value.early, value.depth)
    return e.scopes.define(None, f"tl.permute({value.name}, ({turned}))", made)


def power_of_two(size: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << max(size - 1, 0).bit_length()
