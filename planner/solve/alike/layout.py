"""Groups dealt out to stages that are set up, in the order of the chain.

All stages but one take what fits; that one takes the rest, and streams what it cannot hold: a stage
that streams needs room for a buffer, so that one alone should. Formats and where weights live are
counted anew afterwards: only the ends of stages matter here.
"""

from __future__ import annotations

from collections.abc import Sequence

from planner.ir.devices import Place
from planner.ir.problem import Option, Problem
from planner.ir.solution import Solution
from planner.solve.alike.kinds import BYTES, COST, ERROR, HELD, SCRATCH, Rows
from planner.solve.alike.plans import room_of
from planner.solve.data import FloatArray
from planner.solve.scale.complete import Choice, Completer


def laid_out(problem: Problem, stages: Sequence[Place], rest: int) -> Solution | None:
    """A plan on these stages, in this order; it need not keep any limit. None where it cannot be
    completed, or where some stage would stay empty.

    Args:
        rest: the stage that takes what others do not.
    """
    rows = Rows(problem, charged=True)
    best = {name: _cheapest(problem, rows, name) for name in {place.name for place in stages}}
    rooms = [room_of(problem, place.name) for place in stages]
    tables = [[best[place.name][op] for op in problem.ops] for place in stages]
    stage_of = _dealt(tables, rooms, rest)
    if len(set(stage_of)) < len(stages):
        return None
    by_name = {option.name: number for number, option in enumerate(problem.options)}
    chosen = [by_name[tables[stage][op][0].name] for op, stage in enumerate(stage_of)]
    choice = Choice(tuple(stages), chosen, stage_of, [-1] * len(chosen))
    return Completer(problem, 0).complete(choice)


Priced = tuple[Option, FloatArray]


def _cheapest(problem: Problem, rows: Rows, place: str) -> dict[str, Priced]:
    """Operator -> its resident option there that a typical share of the error budget allows, with
    the least time; among the smallest where none is allowed."""
    budget = problem.limits.error
    share = float("inf") if budget is None else budget / max(len(problem.ops), 1)
    found: dict[str, Priced] = {}
    for option in problem.options:
        if option.place != place or not option.weight_size_bytes:
            continue
        row = rows.of(option)
        known = found.get(option.ops[0])
        if known is None or _rank(row, share) < _rank(known[1], share):
            found[option.ops[0]] = (option, row)
    for option in problem.options:  # what has no weights at all
        if option.place == place and option.ops[0] not in found:
            found[option.ops[0]] = (option, rows.of(option))
    return found


def _rank(row: FloatArray, share: float) -> tuple[bool, float]:
    return bool(row[ERROR] > share), float(row[COST])


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
