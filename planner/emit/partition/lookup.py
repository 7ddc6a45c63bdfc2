"""Rows of a table that lie on different ranks: each adds its own and nothing for the others'."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from planner.emit.partition.schedule import Placed
from planner.ir.graph import Graph


def masked(
    entry: Placed, node: NodeProto, graph: GraphProto, whole: Graph, rank: int, ranks: int
) -> list[NodeProto]:
    """Gather of the own rows; zero where another rank has the row.

    Positions count from the end where they are negative, as in Gather itself.
    """
    assert entry.index is not None
    table, picked = entry.op.inputs[:2]
    axis = entry.index.inputs[0].axis
    shape = whole.tensors[table].shape
    positions = whole.tensors[picked]
    made = whole.tensors[entry.op.outputs[0]]
    assert shape is not None
    assert positions.shape is not None
    rows = shape[axis]
    share = rows // ranks
    base = node.output[0]
    kind = np.dtype(positions.dtype)

    def constant(word: str, value: int | list[int], dtype: Any) -> str:
        name = f"{base}@{word}"
        graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def make(kind_of: str, inputs: list[str], word: str) -> NodeProto:
        return helper.make_node(kind_of, inputs, [f"{base}@{word}"], f"{base}@{word}")

    zero, whole_rows = constant("zero", 0, kind), constant("rows", rows, kind)
    first, end = constant("first", rank * share, kind), constant("share", share, kind)
    behind = len(made.shape or ()) - axis - len(positions.shape)
    axes = constant(
        "axes", list(range(len(positions.shape), len(positions.shape) + behind)), np.int64
    )
    nothing = constant("nothing", 0, made.dtype)
    nodes = [
        make("Less", [picked, zero], "is_negative"),
        make("Add", [picked, whole_rows], "from_end"),
        make("Where", [f"{base}@is_negative", f"{base}@from_end", picked], "position"),
        make("Sub", [f"{base}@position", first], "own"),
        make("GreaterOrEqual", [f"{base}@own", zero], "is_after"),
        make("Less", [f"{base}@own", end], "is_before"),
        make("And", [f"{base}@is_after", f"{base}@is_before"], "is_own"),
        make("Where", [f"{base}@is_own", f"{base}@own", zero], "safe"),
        make("Unsqueeze", [f"{base}@is_own", axes], "mask"),
    ]
    node.input[1] = f"{base}@safe"
    node.output[0] = f"{base}@row"
    keep = helper.make_node(
        "Where", [f"{base}@mask", f"{base}@row", nothing], [base], f"{base}@kept"
    )
    return [*nodes, node, keep]
