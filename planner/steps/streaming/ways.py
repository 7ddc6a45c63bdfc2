"""Ways to write a model: in each format that the plan may mix, cut into the same runs.

Runs are cut once, in the model's own formats; what a format makes of an operator stands in the run
of that operator. Between runs pass the model's own tensors, so that any run may take any way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.compress.base import Format
from planner.graph.analysis import reads
from planner.ir.graph import Graph
from planner.place.chunks import Chunk, described
from planner.steps.streaming.model import Model


@dataclass(frozen=True, slots=True)
class Way:
    """One file."""

    label: str
    model: Model
    formats: Mapping[str, Format]
    """Operator of the model as it was -> its format here; its own where absent."""
    errors: Mapping[str, float]
    """Operator -> what that adds to the error."""

    def may_keep(self, error: float) -> bool:
        """Whether any operator that it changes stays within so much error, or it changes none."""
        return not self.formats or any(one <= error for one in self.errors.values())

    def error(self, run: Chunk) -> float:
        """Of a run of the model as it was."""
        return sum(self.errors.get(op, 0.0) for op in run.ops)

    def formats_of(self, run: Chunk) -> dict[str, Format]:
        """Of a run of the model as it was."""
        return {op: self.formats[op] for op in run.ops if op in self.formats}


def runs_in(graph: Graph, base: Graph, runs: Sequence[Chunk]) -> list[tuple[str, ...]]:
    """The operators of `graph`, a rewritten `base`, by the runs that `base` is cut into, each run
    in the order of the graph.

    What makes a tensor of the base stands where the base made it, anything else with its first
    reader: no operator stands before what it reads.
    """
    number_of = {op: number for number, run in enumerate(runs) for op in run.ops}
    home = {
        name: number_of[op.name] for op in base.ops for name in op.outputs if name and op.outputs
    }
    last = len(runs) - 1
    needed: dict[str, int] = {}
    found: dict[str, int] = {}
    for op in reversed(graph.ops):
        own = [home[name] for name in op.outputs if name in home]
        readers = [needed[name] for name in op.outputs if name in needed]
        number = min(own) if own else min(readers, default=last)
        found[op.name] = number
        for name in reads(op):
            needed[name] = min(needed.get(name, last), number)
    made: list[list[str]] = [[] for _ in runs]
    for op in graph.ops:
        made[found[op.name]].append(op.name)
    return [tuple(ops) for ops in made]


def chunks_of(model: Model, base: Graph, runs: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """The same runs in a way's own file."""
    by_name = {op.name: op for op in model.graph.ops}
    return tuple(
        described(model.graph, tuple(by_name[name] for name in ops), model.fetched, model.tables)
        for ops in runs_in(model.graph, base, runs)
    )
