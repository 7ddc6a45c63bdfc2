"""A model in whole numbers as it stands in CP-SAT's protobuf: what a point breaks, and its rows.

Linear rows, clauses and exactly-ones, each perhaps enforced by literals; nothing else is made here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ortools.sat.python import cp_model_helper as cmh

_FREE = 2**62


@dataclass(frozen=True, slots=True)
class Rows:
    """All constraints of a model as low <= Σ coefficient·column <= high."""

    terms: tuple[tuple[tuple[int, int], ...], ...]
    """(column, coefficient)"""
    low: tuple[int, ...]
    high: tuple[int, ...]


def objective(model: cmh.CpModelProto, values: Sequence[int]) -> int:
    """Of a point, in whole numbers."""
    pairs = zip(model.objective.vars, model.objective.coeffs, strict=True)
    return sum(a * values[column] for column, a in pairs)


def broken(model: cmh.CpModelProto, values: Sequence[int]) -> str:
    """What a point breaks first, by its number; empty where it keeps everything."""
    if len(values) != len(model.variables):
        return f"its length: {len(values)} values for {len(model.variables)} columns"
    for number, (variable, value) in enumerate(zip(model.variables, values, strict=True)):
        if not variable.domain[0] <= value <= variable.domain[1]:
            return f"the range of column {number}"
    for number, row in enumerate(model.constraints):
        if not _is_kept(row, values):
            return f"row {number}"
    return ""


def _is_kept(row: cmh.ConstraintProto, values: Sequence[int]) -> bool:
    """Whether a point keeps one constraint."""

    def holds(literal: int) -> bool:
        return bool(values[literal]) if literal >= 0 else not values[-1 - literal]

    if not all(holds(literal) for literal in row.enforcement_literal):
        return True
    if row.has_bool_or():
        return any(holds(literal) for literal in row.bool_or.literals)
    if row.has_exactly_one():
        return sum(map(holds, row.exactly_one.literals)) == 1
    if not row.has_linear():
        return True
    pairs = zip(row.linear.vars, row.linear.coeffs, strict=True)
    total = sum(a * values[column] for column, a in pairs)
    return bool(row.linear.domain[0] <= total <= row.linear.domain[1])


def rows_of(model: cmh.CpModelProto) -> Rows:
    """Every constraint as a linear row; enforced ones by what they can reach at most."""
    ranges = [(variable.domain[0], variable.domain[1]) for variable in model.variables]
    terms, lows, highs = [], [], []

    def add(sums: dict[int, int], low: int, high: int) -> None:
        terms.append(tuple(sums.items()))
        lows.append(low)
        highs.append(high)

    for row in model.constraints:
        conditions = list(row.enforcement_literal)
        if row.has_linear():
            own = dict(zip(row.linear.vars, row.linear.coeffs, strict=True))
            low, high = row.linear.domain[0], row.linear.domain[1]
            if not conditions:
                add(own, low, high)
                continue
            most = sum(max(a * ranges[c][0], a * ranges[c][1]) for c, a in own.items())
            least = sum(min(a * ranges[c][0], a * ranges[c][1]) for c, a in own.items())
            if most > high:
                _enforced(add, own, conditions, most - high, None, high)
            if least < low:
                _enforced(add, own, conditions, least - low, low, None)
            continue
        if row.has_bool_or():
            literals = [*row.bool_or.literals, *(-1 - literal for literal in conditions)]
            sums, constant = _counted(literals)
            add(sums, 1 - constant, len(literals))
        if row.has_exactly_one():
            sums, constant = _counted(row.exactly_one.literals)
            add(sums, 1 - constant, 1 - constant)
    return Rows(tuple(terms), tuple(lows), tuple(highs))


def _enforced(
    add: Callable[[dict[int, int], int, int], None],
    own: dict[int, int],
    conditions: Sequence[int],
    slack: int,
    low: int | None,
    high: int | None,
) -> None:
    """Σ own + slack·(conditions that hold) <= high + slack·all, or >= in the same way."""
    sums, constant = _counted(conditions)
    total = dict(own)
    for column, sign in sums.items():
        total[column] = total.get(column, 0) + slack * sign
    shift = slack * (len(conditions) - constant)
    floor = -_FREE if low is None else low + shift
    add(total, floor, _FREE if high is None else high + shift)


def _counted(literals: Sequence[int]) -> tuple[dict[int, int], int]:
    """How many literals hold: Σ sign·column + constant."""
    sums: dict[int, int] = {}
    constant = 0
    for literal in literals:
        column, sign = (literal, 1) if literal >= 0 else (-1 - literal, -1)
        sums[column] = sums.get(column, 0) + sign
        constant += sign < 0
    return sums, constant
