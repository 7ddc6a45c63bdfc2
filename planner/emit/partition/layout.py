"""In which form a rank has a tensor, and what brings it from one form into another."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from planner.ir.graph import Op
from planner.ops.sharding import Index, Kind

Operation = Literal["all_reduce", "all_gather", "reduce_scatter", "split"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Whole on every rank, cut along an axis into equal slices, or a summand of the whole."""

    kind: Literal["whole", "cut", "summand"] = "whole"
    axis: int | None = None

    def name(self, tensor: str) -> str:
        """What a tensor is called in this form; the whole keeps its own name."""
        if self.kind == "whole":
            return tensor
        return f"{tensor}@{self.kind}{'' if self.axis is None else self.axis}"


WHOLE = Layout()
SUMMAND = Layout("summand")


def cut_along(axis: int) -> Layout:
    """Slices along an axis."""
    return Layout("cut", axis)


def needs(op: Op, index: Index | None) -> tuple[Layout, ...]:
    """The layout of each operand of an operator that is cut along `index`."""
    found = [WHOLE] * len(op.inputs)
    for axis in index.inputs if index is not None else ():
        found[axis.slot] = cut_along(axis.axis)
    return tuple(found)


def makes(op: Op, index: Index | None) -> tuple[Layout, ...]:
    """The layout of each result."""
    if index is None:
        return (WHOLE,) * len(op.outputs)
    if index.kind is not Kind.PARALLEL:
        return (SUMMAND,) * len(op.outputs)
    axes = {axis.slot: axis.axis for axis in index.outputs}
    slots = range(len(op.outputs))
    return tuple(cut_along(axes[slot]) if slot in axes else WHOLE for slot in slots)


@dataclass(frozen=True, slots=True)
class Step:
    """One conversion: together, unless it is a `split`, which each rank does alone."""

    operation: Operation
    source: Layout
    target: Layout

    @property
    def axis(self) -> int | None:
        """Along which slices are joined or kept."""
        if self.operation == "all_reduce":
            return None
        return self.source.axis if self.operation == "all_gather" else self.target.axis


def conversion(have: Collection[Layout], wanted: Layout) -> tuple[Step, ...]:
    """The cheapest way from what there is; empty where it is there."""
    if wanted in have:
        return ()
    if WHOLE in have:
        return (Step("split", WHOLE, wanted),)
    if SUMMAND in have:
        kind: Operation = "all_reduce" if wanted == WHOLE else "reduce_scatter"
        return (Step(kind, SUMMAND, wanted),)
    source = next(iter(have))
    gather = Step("all_gather", source, WHOLE)
    return (gather,) if wanted == WHOLE else (gather, Step("split", WHOLE, wanted))
