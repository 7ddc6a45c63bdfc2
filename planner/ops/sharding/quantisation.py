"""Integers for numbers: rounding is parallel wherever its scale is, integer products sum exactly.

A range found at run time (DynamicQuantizeLinear) is that of the whole tensor: it stays whole, and
so every rank rounds alike. Sums of integers do not depend on their order, so that ranks that share
one give the very sum of a single process.
"""

from __future__ import annotations

from planner.ops.sharding.base import Axis, Call, Index, parallel, results
from planner.ops.sharding.contraction import matmul
from planner.ops.sharding.convolution import convolution

_SCALE, _ZERO = 1, 2
"""Slots of a rounding."""
_LEFT_ZERO, _RIGHT_ZERO = 2, 3
"""Slots of the zero points of an integer product."""


def rounding(call: Call) -> list[Index]:
    """QuantizeLinear, DequantizeLinear: scales of one axis are cut with it."""
    if call.attributes.get("block_size", 0) or call.rank(1) > 1:
        return []
    has_many = _is_long(call, _SCALE)
    own = call.axis("axis", 1, call.rank(0)) if has_many else -1
    sides = [Axis(slot, 0) for slot in (_SCALE, _ZERO) if call.has(slot)]
    found: list[Index] = []
    for axis, size in enumerate(call.made):
        found += parallel(
            size, [Axis(0, axis), *(sides if axis == own else [])], results(call, axis)
        )
    return found


def product(call: Call) -> list[Index]:
    """MatMulInteger: a product whose zero points are one, or one for each row or column."""
    if call.rank(_LEFT_ZERO) > 1 or call.rank(_RIGHT_ZERO) > 1:
        return []
    found = []
    for index in matmul(call):
        axes = {(axis.slot, axis.axis) for axis in index.inputs}
        zeros = []
        if (0, call.rank(0) - 2) in axes and _is_long(call, _LEFT_ZERO):
            zeros.append(Axis(_LEFT_ZERO, 0))
        if (1, call.rank(1) - 1) in axes and _is_long(call, _RIGHT_ZERO):
            zeros.append(Axis(_RIGHT_ZERO, 0))
        found.append(Index(index.kind, index.extent, (*index.inputs, *zeros), index.outputs))
    return found


def filters(call: Call) -> list[Index]:
    """ConvInteger: one zero point for everything, or one for each filter."""
    plain = Call(call.op_type, call.inputs[:2], call.outputs, call.attributes)
    found = []
    for index in convolution(plain):
        own = next((axis for axis in index.inputs if axis.slot == 1 and axis.axis == 0), None)
        zeros = []
        if own is not None and _is_long(call, _RIGHT_ZERO):
            zeros.append(Axis(_RIGHT_ZERO, 0, own.block))
        found.append(Index(index.kind, index.extent, (*index.inputs, *zeros), index.outputs))
    return found


def _is_long(call: Call, slot: int) -> bool:
    return call.rank(slot) == 1 and call.shape(slot)[0] > 1


def whole(_: Call) -> list[Index]:
    """A range of the whole tensor."""
    return []


RULES = {
    "QuantizeLinear": rounding,
    "DequantizeLinear": rounding,
    "DynamicQuantizeLinear": whole,
    "MatMulInteger": product,
    "ConvInteger": filters,
}
