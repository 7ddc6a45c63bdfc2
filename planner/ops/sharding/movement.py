"""Operators that only move elements: where an axis goes, an index follows it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from planner.ops.sharding.base import (
    Axis,
    Call,
    Index,
    Kind,
    Shape,
    aligned,
    parallel,
    results,
    summed,
)


def transpose(call: Call) -> list[Index]:
    """Axes change places."""
    rank = call.rank(0)
    order = call.attributes.get("perm") or tuple(range(rank))[::-1]
    found: list[Index] = []
    for target, source in enumerate(order):
        found += parallel(call.made[target], [Axis(0, int(source))], [Axis(0, target)])
    return found


def reshape(call: Call) -> list[Index]:
    """Axes split and merge; the outermost part of each lies in one piece on both sides."""
    source, target = call.shape(0), call.made
    found: list[Index] = []
    for left, right in factors(source, target):
        extent = math.gcd(source[left], target[right])
        blocks = source[left] // extent, target[right] // extent
        found += parallel(extent, [Axis(0, left, blocks[0])], [Axis(0, right, blocks[1])])
    return found


def factors(source: Shape, target: Shape) -> Iterator[tuple[int, int]]:
    """(axis, axis) that start at the same element distance and carry the same data: outermost axes
    of the smallest runs of axes with equal products."""
    if 0 in source or 0 in target:
        same = source == target
        yield from ((n, n) for n in range(len(source)) if same)
        return
    left = [n for n, size in enumerate(source) if size > 1]
    right = [n for n, size in enumerate(target) if size > 1]
    i = j = 0
    while i < len(left) and j < len(right):
        yield left[i], right[j]
        a, b = source[left[i]], target[right[j]]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * source[left[i]], i + 1
            else:
                b, j = b * target[right[j]], j + 1


def _may_move(call: Call) -> bool:
    """Whether an axis could keep its length and still be moved: reversed, shifted, cropped."""
    if call.op_type == "Slice":
        steps = call.value(4) if call.has(4) else (1,)
        return steps is None or min(steps, default=1) < 0
    if call.op_type == "Pad":
        pads = call.attributes.get("pads") or call.value(1)
        return pads is None or min(pads, default=0) < 0
    return str(call.attributes.get("coordinate_transformation_mode", "")) == "tf_crop_and_resize"


def unchanged(call: Call) -> list[Index]:
    """Axes that are as long before as after are not touched (Slice, Pad, Tile, Resize)."""
    if _may_move(call):
        return []
    rank, made = call.rank(0), call.made
    offset = len(made) - rank
    found: list[Index] = []
    for axis, size in enumerate(call.shape(0)):
        if made[axis + offset] == size:
            found += parallel(size, [Axis(0, axis)], results(call, axis + offset))
    return found


def expand(call: Call) -> list[Index]:
    """Axes that are there are kept; those that are made are each rank's own."""
    found: list[Index] = []
    for axis, size in enumerate(call.made):
        found += parallel(size, aligned(call, (0,), axis), [Axis(0, axis)])
    return found


def concat(call: Call) -> list[Index]:
    """Every axis but the one along which operands follow each other."""
    joined = call.axis("axis", 0, len(call.made))
    slots = [slot for slot, shape in enumerate(call.inputs) if shape is not None]
    found: list[Index] = []
    for axis, size in enumerate(call.made):
        if axis != joined:
            found += parallel(size, [Axis(slot, axis) for slot in slots], [Axis(0, axis)])
    return found


def split(call: Call) -> list[Index]:
    """Every axis but the one that is cut."""
    cut = call.axis("axis", 0, call.rank(0))
    found: list[Index] = []
    for axis, size in enumerate(call.shape(0)):
        if axis != cut:
            found += parallel(size, [Axis(0, axis)], results(call, axis))
    return found


def gather(call: Call) -> list[Index]:
    """Rows of a table: other axes and those of the positions are parallel; rows may be anywhere."""
    rank, picked = call.rank(0), call.rank(1)
    axis = call.axis("axis", 0, rank)
    found: list[Index] = []
    for other, size in enumerate(call.shape(0)):
        if other != axis:
            target = other if other < axis else other + picked - 1
            found += parallel(size, [Axis(0, other)], [Axis(0, target)])
    for place, size in enumerate(call.shape(1)):
        found += parallel(size, [Axis(1, place)], [Axis(0, axis + place)])
    return found + summed(call.shape(0)[axis], [Axis(0, axis)], kind=Kind.LOOKUP)


def packed_gather(call: Call) -> list[Index]:
    """GatherBlockQuantized: positions, columns in whole blocks, and axes that are neither.

    Rows stay on every rank: another rank's row has no zero among its blocks. So do columns where
    bytes hold several weights, or where the last block is padded.
    """
    rank, picked = call.rank(0), call.rank(1)
    axis, blocked = call.axis("gather_axis", 0, rank), call.axis("quantize_axis", 1, rank)
    found: list[Index] = []
    for place, size in enumerate(call.shape(1)):
        found += parallel(size, [Axis(1, place)], [Axis(0, axis + place)])
    sides = [slot for slot in (2, 3) if call.has(slot)]
    if any(call.shape(slot) != call.shape(2) for slot in sides):
        return found
    step = int(call.attributes.get("block_size", 128))
    for other, size in enumerate(call.shape(0)):
        target = other if other < axis else other + picked - 1
        block = step if other == blocked else 1
        blocks = call.shape(2)[other]
        is_whole = size == blocks * block == call.made[target]
        if other != axis and is_whole:
            tables = [Axis(0, other, block), *(Axis(slot, other) for slot in sides)]
            found += parallel(blocks, tables, [Axis(0, target, block)])
    return found


def one_hot(call: Call) -> list[Index]:
    """Positions are parallel."""
    axis = call.axis("axis", -1, len(call.made))
    found: list[Index] = []
    for place, size in enumerate(call.shape(0)):
        target = place + (place >= axis)
        found += parallel(size, [Axis(0, place)], [Axis(0, target)])
    return found


def blocks(call: Call) -> list[Index]:
    """DepthToSpace, SpaceToDepth: samples."""
    return parallel(call.shape(0)[0], [Axis(0, 0)], [Axis(0, 0)])


def trilu(call: Call) -> list[Index]:
    """All but the last two axes."""
    found: list[Index] = []
    for axis, size in enumerate(call.shape(0)[:-2]):
        found += parallel(size, [Axis(0, axis)], [Axis(0, axis)])
    return found


PACKED_GATHER = "com.microsoft::GatherBlockQuantized"
"""A look-up in a table that is kept in blocks of few bits."""
RULES = {
    "Transpose": transpose,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(("Slice", "Pad", "Tile", "Resize", "Upsample"), unchanged),
    "Expand": expand,
    "Concat": concat,
    "Split": split,
    "Gather": gather,
    PACKED_GATHER: packed_gather,
    "OneHot": one_hot,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), blocks),
    "Trilu": trilu,
}
