"""What a nest is to a kernel: a product of matrices, a window, a short or a long reduction."""

from __future__ import annotations

import math
from collections.abc import Mapping

from planner.ops import index
from planner.ops.expr import Apply, Expr, loads
from planner.ops.index import Affine, Var
from planner.ops.nest import Nest, Reducer

Binding = Mapping[Var, Affine]
"""Axes of a nest -> where it is evaluated."""
MAX_UNROLLED = 64
"""Taps of a window written out one by one (7 x 7 pooling, depthwise kernels)."""
MAX_SHORT = 8
"""Values of any reduction written out one by one."""
MIN_LINE = 12
"""Taps of a window along one axis from which they may be an axis of the tile (15 fill 16)."""
MIN_DEPTH = 8
"""Shorter sums of products are not worth a padded matrix instruction."""
MIN_LONG_SUM = 256
"""Values from which on a sum that is no product keeps float32 in memory: it is small beside what it
is made of."""


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


def is_long_sum(nest: Nest) -> bool:
    """Whether it adds up so much that a narrow format may not hold it, before a mean or a variance
    is made of it: 65,504 is the largest number of float16."""
    added = math.prod(var.extent for var in nest.reduce_axes)
    is_sum = nest.reducer is Reducer.SUM and nest.type.is_float and added >= MIN_LONG_SUM
    return is_sum and not is_contraction(nest) and not is_window(nest)


def is_line(nest: Nest) -> bool:
    """Whether it is a window with many taps, all along one axis."""
    long = [var.extent for var in nest.reduce_axes if var.extent > 1]
    return len(long) == 1 and long[0] >= MIN_LINE and is_window(nest)


def instance(nest: Nest, binding: Binding) -> tuple[str, ...]:
    """A nest at an index, told from others."""
    return (nest.name, *(value.text for value in binding.values()))


def place(nest: Nest, binding: Binding, at: Affine) -> dict[Var, Affine]:
    """The binding with the reduction variables at a flat position."""
    extents = tuple(var.extent for var in nest.reduce_axes)
    inner = index.unflatten(at, extents)
    return {**binding, **dict(zip(nest.reduce_axes, inner, strict=True))}


def taps_and_run(nest: Nest) -> int | None:
    """Length of the run that a window reads at each tap; None where there are no taps."""
    long = [var for var in nest.reduce_axes if var.extent > 1]
    if len(long) < 2 or not is_window(nest):
        return None
    return long[-1].extent


def goes_by_taps(run: int, depth: int) -> bool:
    """Whether a loop over a window's sum in steps of this depth stays within the run of a tap: the
    run in equal steps, or in one that is padded."""
    return run % depth == 0 if depth <= run else depth == power_of_two(run)


def padded(total: int, run: int | None, depth: int) -> int:
    """Values of a sum with what the steps of its loop pad the run of each tap by."""
    return total if run is None or depth <= run else total // run * depth


def power_of_two(size: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << max(size - 1, 0).bit_length()
