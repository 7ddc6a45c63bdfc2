"""Elementwise operators: every index of the result is parallel, as broadcasting lines it up."""

from __future__ import annotations

from planner.ops.elementwise import FAMILY
from planner.ops.sharding.base import Call, Index, aligned, parallel, results

_OTHERS = ("BiasGelu", "Bernoulli", "BitShift", "Sinh", "Cosh", "Asin", "Acos", "Atan", "Tan")


def elementwise(call: Call) -> list[Index]:
    """One index for each axis of the result."""
    slots = range(len(call.inputs))
    found: list[Index] = []
    for axis, size in enumerate(call.made):
        found += parallel(size, aligned(call, slots, axis), results(call, axis))
    return found


def scaled(call: Call) -> list[Index]:
    """Steps of a scale: every axis where all of the tensor has one scale, else none."""
    has_one = all(call.shape(slot) in ((), (1,)) for slot in (1, 2))
    found: list[Index] = []
    for axis, size in enumerate(call.made if has_one else ()):
        found += parallel(size, aligned(call, [0], axis), results(call, axis))
    return found


RULES = {
    **dict.fromkeys((*FAMILY, *_OTHERS, "com.microsoft::BiasGelu"), elementwise),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), scaled),
}
