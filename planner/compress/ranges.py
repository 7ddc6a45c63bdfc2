"""Within what an integer input stays that names rows, columns or nodes.

An index is followed from the input through what only moves or cuts it to where it selects. What it
selects from need not be a table of weights: features that a layer computes count as well, where
their size is known before anything runs. No attribute is needed: of a Gather's axes, those count
that explain the shape of its result, and of several the shortest, which is safe on all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.ir.graph import Graph, Op

_MOVES = ("Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Transpose")
_PARTS = ("Slice", "Gather", "GatherElements", "GatherND", "Split", "Clip", "Expand", "Tile")
_FIRST_ONLY = frozenset((*_MOVES, *_PARTS))
_SELECTS = ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Scatter")
_INDEX = {**dict.fromkeys(_SELECTS, 1), "RoiAlign": 2}
"""Operator -> which operand selects from the first: of regions, each names its image."""


def index_limits(graph: Graph) -> dict[str, int]:
    """Input -> what all its values must be below."""
    limits: dict[str, int] = {}
    origins: dict[str, frozenset[str]] = {name: frozenset((name,)) for name in graph.inputs}
    for op in graph.ops:
        for name in origins.get(op.inputs[_INDEX[op.kind]], ()) if op.kind in _INDEX else ():
            size = _size(op, graph)
            if size:
                limits[name] = min(size, limits.get(name, size))
        found = frozenset(
            origin for name in _carried(op) for origin in origins.get(name, frozenset())
        )
        if found:
            origins.update(dict.fromkeys(op.outputs, found))
    return limits


def _carried(op: Op) -> Sequence[str]:
    """Operands whose values are among the results. A choice carries both: exporters add the size to
    indices below zero, and choose; what is added to is not followed."""
    if op.kind in _FIRST_ONLY:
        return op.inputs[:1]
    if op.kind == "Where":
        return op.inputs[1:3]
    return op.inputs if op.kind == "Concat" else ()


def _size(op: Op, graph: Graph) -> int | None:
    """The shortest axis that the index may run along; None where sizes are not known."""
    data = graph.tensors[op.inputs[0]].shape
    if not data:
        return None
    if op.kind == "RoiAlign":
        return data[0]
    index = graph.tensors[op.inputs[1]].shape
    return min(_sizes(op, graph, data, index), default=min(data))


def _sizes(
    op: Op, graph: Graph, data: tuple[int, ...], index: tuple[int, ...] | None
) -> Iterator[int]:
    if index is None:
        return
    result = graph.tensors[op.outputs[0]].shape
    if op.kind in ("GatherND", "ScatterND"):
        if index and result is not None:
            is_picked = op.kind == "GatherND"
            shared = len(index) - 1 + len(data) - index[-1] - len(result) if is_picked else 0
            yield from data[shared : shared + index[-1]]
        return
    for axis, size in enumerate(data):
        if op.kind == "Gather":
            whole = (*data[:axis], *index, *data[axis + 1 :])
            if result is not None and result == whole:
                yield size
        elif len(index) == len(data) and all(
            own <= other
            for n, (own, other) in enumerate(zip(index, data, strict=True))
            if n != axis
        ):
            yield size
