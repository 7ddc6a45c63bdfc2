"""Groups dealt out to stages that are set up, in the order of the chain.

All stages but one take what fits; that one takes the rest, and streams what it cannot hold: a stage
that streams needs room for a buffer, so that one alone should. Formats and where weights live are
counted anew afterwards: only the ends of stages matter here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from planner.ir.devices import Place
from planner.ir.problem import Option, Problem
from planner.ir.solution import Solution
from planner.solve.alike.kinds import BYTES, COST, ERROR, HELD, SCRATCH, Rows
from planner.solve.alike.plans import room_of
from planner.solve.data import FloatArray
from planner.solve.scale.complete import Choice, Completer

Priced = tuple[int, FloatArray]
"""Number of an option, and its row."""


@dataclass(frozen=True, slots=True)
class Layouts:
    """Of one problem on some places."""

    tables: dict[str, list[Priced]]
    """Place -> the option of each operator there. Places that some operator cannot run at are left
    out."""
    rooms: dict[str, float]
    """Bytes of all devices of one stage at each place."""
    completer: Completer

    @classmethod
    def of(cls, problem: Problem, rows: Rows, places: Iterable[Place]) -> Layouts:
        """What every layout on these places needs."""
        names = dict.fromkeys(place.name for place in places)
        found = {name: _best(problem, rows, name) for name in names}
        return cls(
            {
                name: [best[op] for op in problem.ops]
                for name, best in found.items()
                if len(best) == len(problem.ops)
            },
            {name: room_of(problem, name) for name in names},
            Completer(problem, 0),
        )

    def plan(self, stages: Sequence[Place], rest: int) -> Solution | None:
        """A plan on these stages, in this order; it need not keep any limit. Stages that would stay
        empty are left out. None where an operator cannot run at one of their places, or where it
        cannot be completed.

        Args:
            rest: the stage that takes what others do not.
        """
        if any(place.name not in self.tables for place in stages):
            return None
        tables = [self.tables[place.name] for place in stages]
        stage_of = _dealt(tables, [self.rooms[place.name] for place in stages], rest)
        used = sorted(set(stage_of))
        chosen = [tables[stage][op][0] for op, stage in enumerate(stage_of)]
        number = {stage: n for n, stage in enumerate(used)}
        at = [number[stage] for stage in stage_of]
        choice = Choice(tuple(stages[stage] for stage in used), chosen, at, [-1] * len(chosen))
        return self.completer.complete(choice)


def orders(stages: Sequence[Place]) -> Iterator[tuple[Place, ...]]:
    """Every order of stages, those at one place being equal."""
    if not stages:
        yield ()
    for first in dict.fromkeys(stages):
        left = list(stages)
        left.remove(first)
        for rest in orders(left):
            yield (first, *rest)


def _best(problem: Problem, rows: Rows, place: str) -> dict[str, Priced]:
    """Operator -> its option there of least rank; resident ones first, where it has weights."""
    budget = problem.limits.error
    share = float("inf") if budget is None else budget / max(len(problem.ops), 1)
    found: dict[str, tuple[tuple[bool, bool, float], Priced]] = {}
    for number, option in enumerate(problem.options):
        if option.place != place:
            continue
        row = rows.of(option)
        rank = _rank(option, row, share)
        known = found.get(option.ops[0])
        if known is None or rank < known[0]:
            found[option.ops[0]] = (rank, (number, row))
    return {op: priced for op, (_, priced) in found.items()}


def _rank(option: Option, row: FloatArray, share: float) -> tuple[bool, bool, float]:
    """Resident, of an error that a typical share of the budget allows, then the least time."""
    return not option.weight_size_bytes, bool(row[ERROR] > share), float(row[COST])


def _dealt(tables: Sequence[Sequence[Priced]], rooms: Sequence[float], rest: int) -> list[int]:
    """Stage of each operator: from both ends of the chain, each stage until it is full."""
    first, last = 0, len(tables[0])
    found = [rest] * last
    for stage in range(rest):
        count = _fitting([row for _, row in tables[stage][first:last]], rooms[stage])
        found[first : first + count] = [stage] * count
        first += count
    for stage in range(len(tables) - 1, rest, -1):
        count = _fitting([row for _, row in tables[stage][first:last]][::-1], rooms[stage])
        found[last - count : last] = [stage] * count
        last -= count
    return found


def _fitting(rows: Sequence[FloatArray], room: float) -> int:
    """How many of them, from the first, have room together."""
    kept = scratch = held = 0.0
    for count, row in enumerate(rows):
        kept, scratch = kept + float(row[BYTES]), max(scratch, float(row[SCRATCH]))
        held = max(held, float(row[HELD]))
        if kept + scratch + held > room:
            return count
    return len(rows)
