"""Where each tensor of a rank's program lies; tensors that are never alive at once share places.

Shapes come from the parts' own files and the engine's inputs and outputs; a program with a tensor
of open shape, or of a type that has no fixed size, has no layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from planner.runtime import dtypes
from planner.runtime.device_run import can_bind
from planner.runtime.ranks.board import Board
from planner.runtime.ranks.place import Place
from planner.runtime.ranks.program import Program, Step, Together
from planner.spec.manifest import TensorSpec

Shape = tuple[int, ...]
Kind = tuple[Any, Shape]
"""dtype and shape."""


def kinds_of(program: Program, known: Iterable[TensorSpec]) -> dict[str, Kind] | None:
    """What every tensor of the program is; None: one of them is open.

    Args:
        known: tensors of the rank's parts, and of the engine.
    """
    kinds = {spec.name: _kind(spec) for spec in known if can_bind((spec,))}
    for step in program.steps:
        if isinstance(step, Together) and step.segment.tensor in kinds:
            kinds[step.segment.result] = _result(step, kinds[step.segment.tensor])
    touched = {name for step in program.steps for name in (*step.reads, *step.makes)}
    return kinds if touched | set(program.feeds) <= set(kinds) else None


def _kind(spec: TensorSpec) -> Kind:
    shape = tuple(size for size in spec.shape if size is not None)
    return dtypes.numpy_dtype(spec.dtype), shape


def _result(step: Together, given: Kind) -> Kind:
    dtype, shape = given
    size = len(step.ranks)
    axis, operation = step.segment.axis, step.segment.operation
    if axis is None or operation == "all_reduce":
        return given
    share = shape[axis] * size if operation == "all_gather" else shape[axis] // size
    return dtype, (*shape[:axis], share, *shape[axis + 1 :])


def placed(program: Program, kinds: Mapping[str, Kind], board: Board) -> list[dict[str, Place]]:
    """For each step, the places of what it reads and makes; those of feeds come before them all.

    What is dead after a step leaves its memory to later ones: the board does one after the other.
    """
    free: list[tuple[int, int]] = []
    alive: dict[str, tuple[Place, int]] = {}

    def settle(names: Iterable[str]) -> None:
        for name in names:
            if name not in alive:
                alive[name] = _taken(free, *kinds[name], board)

    settle(program.feeds)
    found = [{name: alive[name][0] for name in program.feeds}]
    for step in program.steps:
        _reuse(step, alive, kinds)
        settle((*step.reads, *step.makes))
        found.append({name: alive[name][0] for name in (*step.reads, *step.makes)})
        for name in step.dead:
            place, size = alive.pop(name)
            if all(other.address != place.address for other, _ in alive.values()):
                free.append((size, place.address))
    found.append({name: alive[name][0] for name in program.returns})
    return found


def _reuse(step: Step, alive: dict[str, tuple[Place, int]], kinds: Mapping[str, Kind]) -> None:
    """A sum takes the place of its summand, where nobody reads that afterwards."""
    if not isinstance(step, Together) or step.segment.operation != "all_reduce":
        return
    tensor, result = step.segment.tensor, step.segment.result
    if tensor in step.dead and tensor in alive and kinds[tensor] == kinds[result]:
        alive[result] = alive[tensor]


def _taken(
    free: list[tuple[int, int]], dtype: Any, shape: Shape, board: Board
) -> tuple[Place, int]:
    size = math.prod(shape) * dtype.itemsize
    fitting = [entry for entry in sorted(free) if entry[0] >= size]
    if fitting:
        free.remove(fitting[0])
        return Place(fitting[0][1], dtype, shape), fitting[0][0]
    return Place(board.allocate(size), dtype, shape), size
