"""What sharding needs to know of an operator: which axes its loops run over.

An operator is a nest of loops over indices. Where an index can be cut into ranges that ranks work
on separately, the operator shards by it: operands that the index runs over are cut, the others are
needed whole, and results are cut (`parallel`) or are summands of the whole (`sum`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]


class Kind(StrEnum):
    """What a rank that runs over part of an index has in the end."""

    PARALLEL = "parallel"
    """Its part of every result."""
    SUM = "sum"
    """A summand of every result: the index is contracted."""
    LOOKUP = "lookup"
    """A summand that is zero where another rank holds the row looked up."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an operand or a result, that an index runs over in steps of `block` elements."""

    slot: int
    """Position among the operator's inputs or outputs."""
    axis: int
    """From the front."""
    block: int = 1
    """Elements along the axis for each value of the index: 64 where heads of 64 lie merged."""


@dataclass(frozen=True, slots=True)
class Index:
    """One loop of an operator."""

    kind: Kind
    extent: int
    """Values it takes: the most ranks that can share it."""
    inputs: tuple[Axis, ...]
    outputs: tuple[Axis, ...] = ()
    """All results for a parallel index; none otherwise."""
    once: tuple[int, ...] = ()
    """Operands that only one rank may add (a bias beside a contracted index)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator as rules see it: shapes and attributes, no names."""

    op_type: str
    inputs: tuple[Shape | None, ...]
    """None: an operand that is left out."""
    outputs: tuple[Shape | None, ...]
    attributes: Attributes
    values: tuple[tuple[int, ...] | None, ...] = ()
    """Of small integer operands, where they are known."""

    def rank(self, slot: int) -> int:
        """Dimensions of an operand."""
        return len(self.shape(slot))

    def shape(self, slot: int) -> Shape:
        """Shape of an operand; `()` where it is left out."""
        return (self.inputs[slot] if slot < len(self.inputs) else None) or ()

    @property
    def made(self) -> Shape:
        """Shape of the first result."""
        return self.outputs[0] or ()

    def has(self, slot: int) -> bool:
        """Whether an optional operand is there."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def value(self, slot: int) -> tuple[int, ...] | None:
        """Of a small integer operand; None where it is not known."""
        return self.values[slot] if slot < len(self.values) else None

    def axis(self, name: str, default: int, rank: int) -> int:
        """An axis attribute, from the front."""
        value = int(self.attributes.get(name, default))
        return value + rank if value < 0 else value


def results(call: Call, axis: int, block: int = 1) -> tuple[Axis, ...]:
    """The same axis of every result."""
    there = (slot for slot, shape in enumerate(call.outputs) if shape is not None)
    return tuple(Axis(slot, axis, block) for slot in there)


def aligned(call: Call, slots: Sequence[int], axis: int) -> tuple[Axis, ...]:
    """What numpy broadcasting lines up with an axis of the first result, where it is not 1 long."""
    rank, size = len(call.made), call.made[axis]
    found = []
    for slot in slots:
        shape = call.inputs[slot]
        own = axis - (rank - len(shape)) if shape is not None else -1
        if shape is not None and own >= 0 and shape[own] == size:
            found.append(Axis(slot, own))
    return tuple(found)


def is_whole(size: int) -> bool:
    """Whether an axis has nothing to share."""
    return size <= 1


def parallel(extent: int, inputs: Sequence[Axis], outputs: Sequence[Axis]) -> list[Index]:
    """A parallel index, unless there is nothing to share."""
    if is_whole(extent):
        return []
    return [Index(Kind.PARALLEL, extent, tuple(inputs), tuple(outputs))]


def summed(
    extent: int, inputs: Sequence[Axis], *, once: Sequence[int] = (), kind: Kind = Kind.SUM
) -> list[Index]:
    """A contracted index, unless there is nothing to share."""
    return [] if is_whole(extent) else [Index(kind, extent, tuple(inputs), (), tuple(once))]


def product(shape: Shape) -> int:
    """Number of elements."""
    return math.prod(shape)
