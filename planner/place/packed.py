"""Which strategies leave weights shareable once they are packed in blocks of few bits.

A packed matrix keeps blocks of 32 weights along K, each with its scale, and zero points of several
blocks in a byte. Ranks that share K hold whole blocks and whole bytes; where that does not come out
even, every rank keeps the whole matrix and does all of the product, so that a share has no price.
"""

from __future__ import annotations

from collections.abc import Mapping

from planner.ir.graph import Op, Tensor
from planner.ops.sharding import Index, Kind
from planner.place.groups import Group
from planner.place.strategy import Spread

BLOCK = 32
"""Weights along K for each scale (`planner/compress/weight_only.py`)."""
BITS: Mapping[str, int] = {"int8_wo": 8, "int4_wo": 4}
"""Formats that pack weights, and the bits of one."""
_BYTE = 8
_WEIGHT = 1
"""Slot of the matrix in a product."""


def can_share(group: Group, spread: Spread, form: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether ranks hold shares of every packed matrix that this strategy cuts."""
    if form not in BITS or spread.degree == 1:
        return True
    heavy = set(group.weighted)
    cut = [op for op in group.ops if op.name in heavy and op.name in spread.choices]
    return all(
        _is_even(op, spread.choices[op.name].index, spread.degree, BITS[form], tensors)
        for op in cut
    )


def unit(bits: int) -> int:
    """Weights along K that ranks cannot divide: blocks whose zero points fill a byte."""
    return BLOCK * _BYTE // bits


def _is_even(op: Op, index: Index, degree: int, bits: int, tensors: Mapping[str, Tensor]) -> bool:
    """Whether each of so many ranks gets the same whole units of a contracted index."""
    if index.kind is not Kind.SUM:
        return True
    shape = tensors[op.inputs[_WEIGHT]].shape or ()
    axes = [axis.axis for axis in index.inputs if axis.slot == _WEIGHT]
    return all(shape[axis] % (degree * unit(bits)) == 0 for axis in axes)
