"""How many operators of a model wait for each other, one after another."""

from __future__ import annotations

from planner.ir.graph import Graph, Op

FREE = frozenset(
    {
        *("Constant", "ConstantOfShape", "Shape", "Size", "Range"),
        *("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    }
)
"""Operators that no runtime launches a kernel for: known ahead, or another view of the same bytes.
"""
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def operators_in_a_row(graph: Graph) -> int:
    """The longest chain of operators that each take a kernel when nothing is fused; O(edges).

    What no input reaches is computed ahead and counts nothing; a recurrence counts its steps, each
    of which waits for the one before.
    """
    level = dict.fromkeys(graph.inputs, 0)
    for op in graph.ops:
        before = [level[name] for name in (*op.inputs, *op.captured) if name in level]
        if before:
            level.update(dict.fromkeys(op.outputs, max(before) + _kernels(op, graph)))
    return max(level.values(), default=0)


def _kernels(op: Op, graph: Graph) -> int:
    if op.kind in FREE:
        return 0
    if op.kind not in _RECURRENT:
        return 1
    shape = graph.tensors[op.inputs[0]].shape
    return shape[0] if shape else 1
