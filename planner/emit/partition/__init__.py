"""A model cut into parts for ranks: stages of a pipeline, and slices of sharded operators.

    partition(model, graphs, cuts, folder) -> parts and collectives, in the order of execution

What each operator of a sharded stage is cut along is given (an index of `planner.ops.sharding`, or
nothing: whole). From that follow the layouts of its operands and results, from those the
collectives, and a part ends wherever one stands: ONNX Runtime computes between collectives.
"""

from __future__ import annotations

from planner.emit.partition.again import with_copies
from planner.emit.partition.calls import cut_of, options, stage_cuts
from planner.emit.partition.outsource import streamable
from planner.emit.partition.stages import Shapes, StageCut, partition, read

__all__ = (
    "Shapes",
    "StageCut",
    "cut_of",
    "options",
    "partition",
    "read",
    "stage_cuts",
    "streamable",
    "with_copies",
)
