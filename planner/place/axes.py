"""Which axes of which tensors are cut together: classes of axes, found from operators' indices.

Every index of an operator ties axes of its operands to axes of its results. What is tied, across
the whole graph, is one class: the heads of one layer with the columns of its queries and the rows
of its output projection; the hidden units of one feed-forward; samples; positions; the vocabulary.
Nothing looks at names or patterns; residual networks tie width and samples through all layers,
while heads and hidden units stay within one, because products contract them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.graph.skeleton import Skeleton
from planner.ir.graph import Graph, Op
from planner.ops.sharding import UNSHARED, Call, Index, indices
from planner.place.union import Union, nodes_of


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to cut an operator: an index, and the class that its axes belong to."""

    index: Index
    group: int
    """The class."""


@dataclass(frozen=True)
class Axes:
    """Classes of axes of one model."""

    cuts: Mapping[str, tuple[tuple[Cut, ...], ...]]
    """Operator -> for each workload entry, how it can be cut. Equal operators share nothing but
    classes differ."""
    unknown: tuple[str, ...]
    """Operators without a rule: they stay whole."""
    classes: int


def call_of(op: Op, graph: Graph, skeleton: Skeleton) -> Call:
    """An operator as the rules see it."""
    tensors, values = graph.tensors, skeleton.values
    return Call(
        op.kind,
        tuple(tensors[name].shape if name else None for name in op.inputs),
        tuple(tensors[name].shape if name else None for name in op.outputs),
        skeleton.attributes.get(op.name, {}),
        tuple(values.get(name) if name else None for name in op.inputs),
    )


def find_axes(skeleton: Skeleton) -> Axes:
    """Classes over all workload entries: an axis of length 1 in one may be cut in another."""
    union = Union()
    seen: dict[object, tuple[Index, ...] | None] = {}
    found: dict[str, list[tuple[Index, ...]]] = {op.name: [] for op in skeleton.graph.ops}
    unknown: dict[str, None] = {}
    for graph in skeleton.graphs.values():
        for op in graph.ops:
            own = _indices(op, graph, skeleton, seen)
            if own is None and op.op_type not in UNSHARED:
                unknown[op.name] = None
            own = own or ()
            found[op.name].append(own)
            for index in own:
                union.join(nodes_of(op, index))
    cuts = {
        op.name: tuple(
            tuple(Cut(index, union.find(nodes_of(op, index)[0])) for index in own)
            for own in found[op.name]
        )
        for op in skeleton.graph.ops
    }
    return Axes(cuts, tuple(unknown), len(union.parents))


def _indices(
    op: Op, graph: Graph, skeleton: Skeleton, seen: dict[object, tuple[Index, ...] | None]
) -> tuple[Index, ...] | None:
    call = call_of(op, graph, skeleton)
    if any(shape is None for shape, name in zip(call.inputs, op.inputs, strict=True) if name):
        return ()
    key = (call.op_type, call.inputs, call.outputs, id(call.attributes), call.values)
    if key not in seen:
        seen[key] = None if op.captured else indices(call)
    return seen[key]
