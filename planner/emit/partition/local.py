"""What an operator says of sizes, said of a rank's part: target shapes, groups, heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.ir.graph import Graph, Op
from planner.ops.sharding import Index, Kind
from planner.ops.sharding.contraction import PACKED

_SHAPE_SLOT = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""Operators whose operand at that place is the shape of the result."""
_COUNTS = {
    "Conv": ("group",),
    "ConvTranspose": ("group",),
    "GroupNormalization": ("num_groups",),
    "Attention": ("q_num_heads", "kv_num_heads"),
}
"""Attributes that count what an index may share."""


def can_localise(op: Op, index: Index, graphs: Sequence[Graph]) -> bool:
    """Whether a rank's own shape can be named for every shape of the workload at once."""
    return _slot(op) is None or _dims(op, index, graphs) is not None


def shape_operand(
    op: Op, index: Index, graphs: Sequence[Graph], ranks: int
) -> tuple[int, list[int]] | None:
    """(slot, values) of an operand that must name the rank's own shape, where there is one."""
    slot = _slot(op)
    if slot is None:
        return None
    dims = _dims(op, index, graphs)
    assert dims is not None, "an index without a shape of its own is no option"
    for axis in index.outputs:
        dims[axis.axis] //= ranks
    return slot, dims


def _slot(op: Op) -> int | None:
    slot = _SHAPE_SLOT.get(op.kind)
    return slot if slot is not None and slot < len(op.inputs) and op.inputs[slot] else None


def _dims(op: Op, index: Index, graphs: Sequence[Graph]) -> list[int] | None:
    """The result's sizes, and for those that the workload varies what stands for `as given`: in
    a Reshape one -1, else 0; in an Expand 1. None where that cannot be said."""
    given = [graph.tensors[op.inputs[0]].shape for graph in graphs]
    made = [graph.tensors[op.outputs[0]].shape for graph in graphs]
    sizes = [list(shape) for shape in made if shape is not None]
    assert len(sizes) == len(graphs), "operators without a known shape have no index"
    varied = [n for n, dims in enumerate(zip(*sizes, strict=True)) if len(set(dims)) > 1]
    found = sizes[0]
    if not varied:
        return found
    cut = {axis.axis for axis in index.inputs if axis.slot == 0}
    kept = [n for n in varied if n not in cut and _is_kept(n, given, sizes, op.kind)]
    others = [n for n in varied if n not in kept]
    if op.kind == "Expand" and not others:
        return [1 if n in kept else size for n, size in enumerate(found)]
    if op.kind != "Reshape" or len(others) > 1:
        return None
    return [-1 if n in others else 0 if n in kept else size for n, size in enumerate(found)]


def _is_kept(
    axis: int,
    given: Sequence[tuple[int, ...] | None],
    made: Sequence[Sequence[int]],
    kind: str,
) -> bool:
    """Whether an axis of the result is the operand's: the same from the front (Reshape), or as
    broadcasting lines them up (Expand)."""
    for before, after in zip(given, made, strict=True):
        own = axis - (len(after) - len(before or ())) if kind == "Expand" else axis
        if before is None or not 0 <= own < len(before) or before[own] != after[axis]:
            return False
    return True


def attributes(op: Op, index: Index, given: Mapping[str, Any], ranks: int) -> dict[str, int]:
    """Attributes of which a rank has its share.

    An index shares what an attribute counts where it runs over channels or merged heads in blocks
    of several elements, or where it takes as many values as the attribute says.
    """
    if op.kind == PACKED:
        return _packed(index, given, ranks)
    found: dict[str, int] = {}
    counts = {name: int(given[name]) for name in _COUNTS.get(op.kind, ()) if given.get(name)}
    shares_axis = any(axis.axis > 0 for axis in index.outputs)
    for name, count in counts.items():
        if shares_axis and count > 1 and count % index.extent == 0:
            found[name] = count // ranks
    return found


def _packed(index: Index, given: Mapping[str, Any], ranks: int) -> dict[str, int]:
    """Columns and inner dimension of a product whose weights are packed."""
    if index.kind is Kind.SUM:
        return {"K": int(given["K"]) // ranks}
    shares_weight = any(axis.slot == 1 for axis in index.inputs)
    return {"N": int(given["N"]) // ranks} if shares_weight else {}
