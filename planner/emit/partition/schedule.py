"""Between which collectives each operator of a sharded stage runs.

An operator's level is the number of collectives on the heaviest path to it. Operators of a level
run in one ONNX part; the collectives that lead from a level to later ones run after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.emit.partition.layout import WHOLE, Layout, Step, conversion, makes, needs
from planner.ir.graph import Graph, Op
from planner.ops.sharding import Index


@dataclass(frozen=True, slots=True)
class Placed:
    """An operator with the forms that its operands and results have."""

    op: Op
    index: Index | None
    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion of one tensor."""

    tensor: str
    step: Step


@dataclass
class Level:
    """What runs between two rounds of collectives."""

    ops: list[Placed | Converted] = field(default_factory=list)
    """In order; conversions here are splits, which need nobody else."""
    after: list[Converted] = field(default_factory=list)
    """Collectives."""


class Schedule:
    """Operators added in topological order; `levels` is the result."""

    def __init__(self, graph: Graph, choices: Mapping[str, Index]) -> None:
        self.levels: list[Level] = [Level()]
        self._graph = graph
        self._choices = choices
        self._have: dict[str, dict[Layout, int]] = {}
        """Tensor -> form -> the level from which on it is there."""

    def add(self, op: Op) -> None:
        """One operator, cut as chosen."""
        index = self._choices.get(op.name)
        inputs = needs(op, index)
        level = 0
        for name, layout in zip(op.inputs, inputs, strict=True):
            level = max(level, self.bring(name, layout))
        for name in op.captured:
            level = max(level, self.bring(name, WHOLE))
        for name, layout in zip(op.inputs, inputs, strict=True):
            self._split_at(level, name, layout)
        outputs = makes(op, index)
        self._level(level).ops.append(Placed(op, index, inputs, outputs))
        for name, layout in zip(op.outputs, outputs, strict=True):
            if name:
                self._have[name] = {layout: level}

    def bring(self, name: str, wanted: Layout) -> int:
        """The level from which on a tensor is there in a form."""
        if not name or self._graph.tensors[name].is_constant:
            return 0
        have = self._have.setdefault(name, {WHOLE: 0})
        for step in conversion(have, wanted):
            level = have[step.source]
            if step.operation != "split":
                self._level(level).after.append(Converted(name, step))
                level += 1
                have[step.target] = level
        return have[wanted] if wanted in have else have[WHOLE]

    def _split_at(self, level: int, name: str, layout: Layout) -> None:
        """A slice of a whole is made in every level that reads it: it costs next to nothing."""
        if not name or layout.kind != "cut" or self._graph.tensors[name].is_constant:
            return
        done = Converted(name, Step("split", WHOLE, layout))
        if layout not in self._have[name] and done not in self._level(level).ops:
            self._level(level).ops.append(done)

    def _level(self, number: int) -> Level:
        while len(self.levels) <= number:
            self.levels.append(Level())
        return self.levels[number]


def schedule(
    ops: Sequence[Op], graph: Graph, choices: Mapping[str, Index], wanted: Sequence[str]
) -> list[Level]:
    """The levels of a stage, at whose end the tensors `wanted` are whole on every rank."""
    found = Schedule(graph, choices)
    for op in ops:
        found.add(op)
    for name in wanted:
        found.bring(name, WHOLE)
    return found.levels
