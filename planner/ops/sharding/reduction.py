"""Reductions and normalisations: axes that are kept are parallel; sums may be summed by parts."""

from __future__ import annotations

from planner.ops.sharding.base import Axis, Call, Index, parallel, results, summed


def along_axis(call: Call) -> list[Index]:
    """Softmax, CumSum, TopK: one axis is worked on, the others are parallel."""
    values = call.value(1) if call.op_type == "CumSum" else None
    if call.op_type == "CumSum" and not values:
        return []
    default = values[0] if values else -1
    axis = call.axis("axis", default, call.rank(0))
    found: list[Index] = []
    for other, size in enumerate(call.shape(0)):
        if other != axis:
            found += parallel(size, [Axis(0, other)], results(call, other))
    return found


def normalise_tail(call: Call) -> list[Index]:
    """LayerNormalization and RMSNormalization: axes before `axis` are parallel."""
    rank = call.rank(0)
    first = call.axis("axis", -1, rank)
    tail = range(first, rank)
    found: list[Index] = []
    for axis, size in enumerate(call.shape(0)):
        if axis not in tail:
            found += parallel(size, [Axis(0, axis)], results(call, axis))
    return found


def normalise_channels(call: Call) -> list[Index]:
    """BatchNormalization: batch and space are parallel, and so are channels with their vectors."""
    found: list[Index] = []
    for axis, size in enumerate(call.shape(0)):
        vectors = [Axis(slot, 0) for slot in range(1, len(call.inputs)) if axis == 1]
        is_free = axis != 1 or all(call.shape(slot) == (size,) for slot in range(1, 5))
        if is_free and len([shape for shape in call.outputs if shape is not None]) == 1:
            found += parallel(size, [Axis(0, axis), *vectors], [Axis(0, axis)])
    return found


def normalise_space(call: Call) -> list[Index]:
    """InstanceNormalization: batch and channels are parallel; space is normalised over."""
    batch, channels = call.shape(0)[:2]
    vectors = [Axis(slot, 0) for slot in range(1, len(call.inputs))]
    return [
        *parallel(batch, [Axis(0, 0)], [Axis(0, 0)]),
        *parallel(channels, [Axis(0, 1), *vectors], [Axis(0, 1)]),
    ]


def normalise_groups(call: Call) -> list[Index]:
    """GroupNormalization: batch and groups are parallel."""
    batch, channels = call.shape(0)[:2]
    groups = int(call.attributes.get("num_groups", 1))
    block = channels // max(groups, 1)
    if any(call.shape(slot) != (channels,) for slot in range(1, len(call.inputs))):
        return parallel(batch, [Axis(0, 0)], [Axis(0, 0)])
    vectors = [Axis(slot, 0, block) for slot in range(1, len(call.inputs))]
    return [
        *parallel(batch, [Axis(0, 0)], [Axis(0, 0)]),
        *parallel(groups, [Axis(0, 1, block), *vectors], [Axis(0, 1, block)]),
    ]


def reduce(call: Call) -> list[Index]:
    """Reduce...: kept axes are parallel; of a sum, the others are summed by parts."""
    rank = call.rank(0)
    given = call.attributes.get("axes") or call.value(1)
    if call.has(1) and given is None:
        return []
    if not given and call.attributes.get("noop_with_empty_axes", 0):
        return []
    axes = {int(axis) % rank for axis in (given or range(rank))} if rank else set()
    keeps = bool(call.attributes.get("keepdims", 1))
    found: list[Index] = []
    target = 0
    for axis, size in enumerate(call.shape(0)):
        if axis not in axes:
            found += parallel(size, [Axis(0, axis)], [Axis(0, target)])
        elif call.op_type in _SUMS:
            found += summed(size, [Axis(0, axis)])
        target += axis not in axes or keeps
    return found


def arg(call: Call) -> list[Index]:
    """ArgMax, ArgMin: every axis but one is parallel."""
    rank = call.rank(0)
    reduced, keeps = call.axis("axis", 0, rank), bool(call.attributes.get("keepdims", 1))
    found: list[Index] = []
    for axis, size in enumerate(call.shape(0)):
        if axis != reduced:
            target = axis - (axis > reduced and not keeps)
            found += parallel(size, [Axis(0, axis)], [Axis(0, target)])
    return found


_SUMS = ("ReduceSum", "ReduceL1", "ReduceSumSquare")
"""What may be added up by parts."""
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2")
RULES = {
    **dict.fromkeys((*_SUMS, *_REDUCTIONS, "ReduceLogSum", "ReduceLogSumExp"), reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), arg),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "CumSum", "TopK"), along_axis),
    **dict.fromkeys(("LpNormalization",), along_axis),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), normalise_tail),
    "SimplifiedLayerNormalization": normalise_tail,
    "BatchNormalization": normalise_channels,
    "InstanceNormalization": normalise_space,
    "GroupNormalization": normalise_groups,
}
