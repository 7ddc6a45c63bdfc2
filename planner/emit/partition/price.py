"""What choices of cuts make ranks say to each other, without writing any file."""

from __future__ import annotations

from collections.abc import Mapping

from planner.emit.partition.schedule import schedule
from planner.ir.graph import Graph
from planner.ops.sharding import Index


def talk_sizes(graph: Graph, choices: Mapping[str, Index]) -> list[tuple[str, int]]:
    """(operation, bytes of the whole tensor) of every collective of one stage of all operators."""
    levels = schedule(graph.ops, graph, choices, graph.outputs)
    return [
        (one.step.operation, graph.tensors[one.tensor].size_bytes)
        for level in levels
        for one in level.after
    ]
