"""Convolutions and pools: samples and channels; space overlaps, and stays whole."""

from __future__ import annotations

from planner.ops.sharding.base import Axis, Call, Index, parallel, summed


def convolution(call: Call) -> list[Index]:
    """X [N, C, ...], W [M, C / groups, ...]: samples, result channels or groups; C is summed."""
    batch, channels = call.shape(0)[:2]
    filters, inner = call.shape(1)[:2]
    groups = int(call.attributes.get("group", 1))
    has_bias = call.has(2)
    found = parallel(batch, [Axis(0, 0)], [Axis(0, 0)])
    if groups > 1:
        block, made = channels // groups, filters // groups
        bias = [Axis(2, 0, made)] if has_bias else []
        inputs = [Axis(0, 1, block), Axis(1, 0, made), *bias]
        return found + parallel(groups, inputs, [Axis(0, 1, made)])
    bias = [Axis(2, 0)] if has_bias else []
    found += parallel(filters, [Axis(1, 0), *bias], [Axis(0, 1)])
    return found + summed(inner, [Axis(0, 1), Axis(1, 1)], once=[2] if has_bias else [])


def transposed(call: Call) -> list[Index]:
    """X [N, C, ...], W [C, M / groups, ...]."""
    batch = call.shape(0)[0]
    inner, filters = call.shape(1)[:2]
    found = parallel(batch, [Axis(0, 0)], [Axis(0, 0)])
    if int(call.attributes.get("group", 1)) > 1:
        return found
    bias = [Axis(2, 0)] if call.has(2) else []
    found += parallel(filters, [Axis(1, 1), *bias], [Axis(0, 1)])
    return found + summed(inner, [Axis(0, 1), Axis(1, 0)], once=[2] if call.has(2) else [])


def pool(call: Call) -> list[Index]:
    """Samples and channels are parallel."""
    if len([shape for shape in call.outputs if shape is not None]) > 1:
        return []  # positions of maxima count through all channels
    batch, channels = call.shape(0)[:2]
    return [
        *parallel(batch, [Axis(0, 0)], [Axis(0, 0)]),
        *parallel(channels, [Axis(0, 1)], [Axis(0, 1)]),
    ]


_POOLS = ("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool")
RULES = {"Conv": convolution, "ConvTranspose": transposed, **dict.fromkeys(_POOLS, pool)}
