"""What an operator says of sizes, said of a rank's part: target shapes, groups, heads."""

from __future__ import annotations

from collections.abc import Mapping
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


def shape_operand(op: Op, index: Index, graph: Graph, ranks: int) -> tuple[int, list[int]] | None:
    """(slot, values) of an operand that must name the rank's own shape, where there is one."""
    slot = _SHAPE_SLOT.get(op.kind)
    if slot is None or slot >= len(op.inputs) or not op.inputs[slot]:
        return None
    made = graph.tensors[op.outputs[0]].shape
    assert made is not None, "operators without a static shape have no index"
    dims = list(made)
    for axis in index.outputs:
        dims[axis.axis] //= ranks
    return slot, dims


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
