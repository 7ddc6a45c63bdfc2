"""Operators whose options cost the same, as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.ir.problem import Option, Problem
from planner.solve.alike.charges import ENDS, Charges
from planner.solve.data import FloatArray
from planner.solve.price import peak_size_bytes

BYTES, ERROR, SCRATCH, HELD, COST, PLACE, TIMES = 0, 1, 2, 3, 4, 5, 6
"""Columns: bytes for good, error, scratch memory and peak of what is held while it runs (all of
every rank of its place), weighted expected time, number of its place; from `TIMES` on,
(shapes x 3) ends."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Operators whose options are equal, one by one."""

    ops: tuple[int, ...]
    """Positions in the problem."""
    options: tuple[tuple[int, ...], ...]
    """For each operator, numbers of its options, in the order of the rows."""
    rows: FloatArray
    group: int = 0
    """The stage it is counted in."""

    def keeping(self, kept: Sequence[int]) -> Kind:
        """Only some of the options."""
        chosen = tuple(tuple(own[n] for n in kept) for own in self.options)
        return Kind(self.ops, chosen, self.rows[list(kept)], self.group)


def is_countable(problem: Problem) -> bool:
    """Whether counts say everything: one setting, groups of one operator, nothing that ties two."""
    return (
        len(problem.settings) == 1
        and bool(problem.places)
        and problem.assignment is None
        and not (problem.stores or problem.pairs or problem.tied or problem.repeatable)
        and not problem.forbidden
        and all(len(option.ops) == 1 and option.place is not None for option in problem.options)
        and all(cell is not None for option in problem.options for cell in option.latency[0])
    )


class Rows:
    """The row of each option of a problem."""

    def __init__(self, problem: Problem, *, charged: bool) -> None:
        self._problem = problem
        self._charges = Charges(problem) if charged else None
        self._degrees = {place.name: place.degree for place in problem.places}
        self._numbers = {place.name: n for n, place in enumerate(problem.places)}
        self._weights = np.array(problem.shape_weights)

    def of(self, option: Option) -> FloatArray:
        """Its row."""
        degree = self._degrees[option.place or ""]
        cells = [cell for cell in option.latency[0] if cell is not None]
        times = np.array([[getattr(cell, end) for end in ENDS] for cell in cells])
        if self._charges is not None:
            times = times + self._charges.of(option)
        kept = option.weight_size_bytes + option.cache_size_bytes
        head = (
            degree * kept,
            option.error,
            degree * option.workspace_size_bytes,
            degree * peak_size_bytes(option.holds),
            float(self._weights @ times[:, 1]),
            float(self._numbers[option.place or ""]),
        )
        return np.concatenate((np.array(head), times.reshape(-1)))


def kinds(
    problem: Problem,
    rows: Rows,
    keep: Callable[[int, Option], bool] = lambda op, option: True,
    group: Callable[[int], int] = lambda op: 0,
) -> list[Kind]:
    """All operators, by what their options cost.

    Args:
        keep: (position of the operator, option) -> whether it may be chosen.
        group: position of an operator -> the stage it is counted in.
    """
    place = {name: number for number, name in enumerate(problem.ops)}
    by_op: list[list[int]] = [[] for _ in problem.ops]
    for number, option in enumerate(problem.options):
        op = place[option.ops[0]]
        if keep(op, option):
            by_op[op].append(number)
    found: dict[tuple[int, int, bytes], list[int]] = {}
    tables: dict[bytes, FloatArray] = {}
    for op, own in enumerate(by_op):
        width = TIMES + 3 * len(problem.shape_weights)
        table = np.array([rows.of(problem.options[n]) for n in own]).reshape(len(own), width)
        key = table.tobytes()
        tables[key] = table
        found.setdefault((group(op), len(own), key), []).append(op)
    return [
        Kind(tuple(ops), tuple(tuple(by_op[op]) for op in ops), tables[key], number)
        for (number, _, key), ops in found.items()
    ]


def undominated(kind: Kind, columns: Iterable[int], *, by_place: bool = False) -> Kind:
    """Without options that another is no worse than in every column that counts.

    Args:
        by_place: only another at the same place.
    """
    table = kind.rows[:, list(columns)]
    places = kind.rows[:, PLACE] if by_place else np.zeros(len(table))
    kept: list[int] = []
    for n in np.lexsort(table.T[::-1]).tolist():
        if not any(places[m] == places[n] and (table[m] <= table[n]).all() for m in kept):
            kept.append(n)
    return kind.keeping(sorted(kept))
