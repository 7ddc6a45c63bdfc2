"""Matrix products inside a tile: whole sums, sums split over warps, loops that several share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from planner.kernels.emit import Emitter
from planner.kernels.patterns import (
    MIN_DEPTH,
    Binding,
    as_product,
    goes_by_taps,
    instance,
    place,
    power_of_two,
    taps_and_run,
)
from planner.kernels.scope import Value
from planner.ops import index
from planner.ops.expr import Expr, Load
from planner.ops.index import Affine, Var
from planner.ops.nest import Nest


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


def dot(e: Emitter, nest: Nest, product: tuple[Expr, Expr], binding: Binding) -> Value | None:
    """tl.dot, where each factor has one tile axis of its own and they share none."""
    total = math.prod(var.extent for var in nest.reduce_axes)
    if total < MIN_DEPTH:
        return None
    known = e.joined.get(instance(nest, binding))
    if known is not None and not e.is_guarded:
        return known
    depth, run = e.depth_of(nest.name), taps_and_run(nest)
    if run is not None and goes_by_taps(run, depth):
        k, outer = e.fresh_var(run), e.fresh_var(total // run, "t")
        operands = _operands(e, nest, product, binding, k, outer)
    else:
        run, operands = None, _over_sum(e, nest, product, binding)
    if operands is None:
        return None
    block = power_of_two(total)
    if run is not None or block > depth:
        return _dot_looped(e, operands, depth, beside=_beside(e, nest, binding, operands))
    split = _split(e, nest, total)
    if split == 1:
        return _dot_whole(e, operands, max(block, 16))
    return _summed(e, _dot_split(e, operands, split), operands)


def _over_sum(
    e: Emitter, nest: Nest, product: tuple[Expr, Expr], binding: Binding
) -> _Operands | None:
    """The factors over the sum; over the variable that a tile holds whole already, where there is
    one."""
    total = math.prod(var.extent for var in nest.reduce_axes)
    operands = _operands(e, nest, product, binding, e.fresh_var(total))
    if operands is None:
        return None
    again = e.sums.get((nest.name, operands.m, operands.n))
    return operands if again is None else _operands(e, nest, product, binding, again)


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
    one, other = (_split_over_warps(e, load) for load in (first, second))
    if one is None or other is None:
        return None
    (operands, split), (more, parts) = one, other
    if split != parts or (operands.m, operands.n) != (more.m, more.n):
        return None
    made = _dot_split(e, more, split, _dot_split(e, operands, split))
    return _summed(e, made, operands)


def _split_over_warps(e: Emitter, load: Load) -> tuple[_Operands, int] | None:
    """The factors of a sibling whose sum is split, and into how many parts."""
    nest = e.internal.get(load.tensor)
    if nest is None or e.is_guarded or load.guards:
        return None
    binding = dict(zip(nest.axes, load.index, strict=True))
    product, total = as_product(nest), math.prod(var.extent for var in nest.reduce_axes)
    if product is None or instance(nest, binding) not in e.siblings:
        return None
    is_whole = power_of_two(total) <= e.depth_of(nest.name) and taps_and_run(nest) is None
    split = _split(e, nest, total)
    operands = _over_sum(e, nest, product, binding) if is_whole and split > 1 else None
    return None if operands is None else (operands, split)


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
        # Not `%`: Triton 3.6 loses its alignment, and then loads nothing ahead.
        run = max(o.k.extent, block)
        total_depth = o.outer.extent * run
        tap = e.bind(o.outer, f"{counter} // {run}", (), depth)
        start = f"({counter} - {tap.name} * {run})"
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


def _at_tap(nest: Nest, binding: Binding, outer: Var, k: Var) -> dict[Var, Affine]:
    """The binding with the run at `k` and all other reduction variables at a flat position."""
    run = [var for var in nest.reduce_axes if var.extent > 1][-1]
    taps = tuple(var for var in nest.reduce_axes if var != run)
    at = index.unflatten(index.variable(outer), tuple(var.extent for var in taps))
    return {**binding, **dict(zip(taps, at, strict=True)), run: index.variable(k)}
