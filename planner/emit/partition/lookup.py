"""Rows of a table that lie on different ranks: each adds its own and nothing for the others'."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from planner.emit.partition.schedule import Placed
from planner.ir.graph import Graph


class _Writer:
    """Makes nodes and constants whose names begin with that of the result."""

    def __init__(self, graph: GraphProto, base: str) -> None:
        self._graph, self._base = graph, base

    def name(self, word: str) -> str:
        return f"{self._base}@{word}"

    def constant(self, word: str, value: int | list[int], dtype: Any) -> str:
        """The name of a new initialiser."""
        tensor = numpy_helper.from_array(np.array(value, dtype), self.name(word))
        self._graph.initializer.append(tensor)
        return tensor.name

    def node(self, op_type: str, inputs: list[str], word: str) -> NodeProto:
        """A node with one result."""
        return helper.make_node(op_type, inputs, [self.name(word)], self.name(word))


def masked(
    entry: Placed, node: NodeProto, graph: GraphProto, whole: Graph, rank: int, ranks: int
) -> list[NodeProto]:
    """Gather of the own rows; zero where another rank has the row.

    Positions count from the end where they are negative, as in Gather itself.
    """
    assert entry.index is not None
    table, picked = (whole.tensors[name] for name in entry.op.inputs[:2])
    made = whole.tensors[entry.op.outputs[0]]
    axis = entry.index.inputs[0].axis
    assert table.shape is not None
    assert picked.shape is not None
    rows = table.shape[axis]
    base, positions = node.output[0], entry.op.inputs[1]
    write, kind = _Writer(graph, base), np.dtype(picked.dtype)
    name = write.name

    zero, count = write.constant("zero", 0, kind), write.constant("rows", rows, kind)
    share = rows // ranks
    first, end = write.constant("first", rank * share, kind), write.constant("share", share, kind)
    before, behind = len(picked.shape), len(made.shape or ()) - axis - len(picked.shape)
    axes = write.constant("axes", list(range(before, before + behind)), np.int64)
    nothing = write.constant("nothing", 0, made.dtype)
    found = [
        write.node("Less", [positions, zero], "is_negative"),
        write.node("Add", [positions, count], "from_end"),
        write.node("Where", [name("is_negative"), name("from_end"), positions], "position"),
        write.node("Sub", [name("position"), first], "own"),
        write.node("GreaterOrEqual", [name("own"), zero], "is_after"),
        write.node("Less", [name("own"), end], "is_before"),
        write.node("And", [name("is_after"), name("is_before")], "is_own"),
        write.node("Where", [name("is_own"), name("own"), zero], "safe"),
        write.node("Unsqueeze", [name("is_own"), axes], "mask"),
    ]
    node.input[1], node.output[0] = name("safe"), name("row")
    kept = [name("mask"), name("row"), nothing]
    return [*found, node, helper.make_node("Where", kept, [base], name("kept"))]
