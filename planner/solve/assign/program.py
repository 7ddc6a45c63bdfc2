"""A CP-SAT model in whole numbers, built straight into its protobuf: clauses and linear rows.

Literals are columns (>= 0) and their negations (-1 - column), as CP-SAT writes them. Real
coefficients are rounded down to multiples of a unit: with non-negative columns a row Σ a·x <= b
becomes weaker, never stronger, so that what CP-SAT proves holds for the real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ortools.sat.python import cp_model_helper as cmh

from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups
from planner.solve.backend import Answer
from planner.solve.cpsat import may_hint
from planner.solve.trusted import NAME, solve_trusted

MOST_BITS = 60
"""Of sums in a row: CP-SAT refuses a model whose sums may pass 64 bits."""
TRUE = 0
"""A literal that always holds: every program's first column."""
FALSE = -1
_FREE = 2**62


def negated(literal: int) -> int:
    """The opposite literal."""
    return -1 - literal


def whole_units(time_us: float, unit_us: float, cutoff_us: float) -> int:
    """A time in whole units, rounded down; twice the cutoff is as much too much as all above it,
    which may be beyond 64 bits."""
    return math.floor(min(time_us, 2 * cutoff_us) / unit_us)


def fitted(amounts: Sequence[int], most: int) -> tuple[list[int], int]:
    """Amounts, none negative, and what they may sum up to: both rounded down to a coarser unit
    where sums would be beyond 64 bits, so that a row `Σ amounts <= most` becomes weaker."""
    shift = max(max(sum(amounts), abs(most)).bit_length() - MOST_BITS, 0)
    return [amount >> shift for amount in amounts], most >> shift


def fitted_sizes(groups: Groups, kind: int, slots: int = 1) -> tuple[list[int], int]:
    """What groups hold at a kind, and the memory of so many of its slots, which is finite."""
    capacity = math.floor(slots * groups.kinds[kind].capacity_bytes)
    return fitted([int(size) for size in groups.size_bytes[kind]], capacity)


Terms = Iterable[tuple[int, int]]
"""(coefficient, literal)"""


@dataclass(slots=True)
class Program:
    """Columns, clauses and rows."""

    proto: cmh.CpModelProto = field(default_factory=cmh.CpModelProto)
    columns: int = 0

    def __post_init__(self) -> None:
        """The literal that always holds."""
        self.column(1, 1)

    def column(self, low: int, high: int) -> int:
        """A new whole-number column."""
        self.proto.variables.add().domain.extend([low, high])
        self.columns += 1
        return self.columns - 1

    def boolean(self) -> int:
        """A new literal."""
        return self.column(0, 1)

    def clause(self, *literals: int) -> None:
        """At least one holds."""
        if TRUE in literals:
            return
        kept = [literal for literal in literals if literal != FALSE]
        self.proto.constraints.add().bool_or.literals.extend(kept)

    def implies(self, first: int, second: int) -> None:
        """first -> second"""
        self.clause(negated(first), second)

    def exactly_one(self, literals: Iterable[int]) -> None:
        """One and only one holds."""
        self.proto.constraints.add().exactly_one.literals.extend(literals)

    def row(
        self, terms: Terms, low: int | None, high: int | None, only_if: Sequence[int] = ()
    ) -> None:
        """low <= Σ coefficient·literal <= high, whenever all of `only_if` hold."""
        if FALSE in only_if:
            return
        sums: dict[int, int] = {}
        constant = 0
        for coefficient, literal in terms:
            column, sign = (literal, 1) if literal >= 0 else (-1 - literal, -1)
            constant += coefficient if sign < 0 else 0
            if column == TRUE:
                constant += sign * coefficient
                continue
            sums[column] = sums.get(column, 0) + sign * coefficient
        added = self.proto.constraints.add()
        added.enforcement_literal.extend(literal for literal in only_if if literal != TRUE)
        kept = [(column, value) for column, value in sums.items() if value]
        added.linear.vars.extend(column for column, _ in kept)
        added.linear.coeffs.extend(value for _, value in kept)
        floor = -_FREE if low is None else low - constant
        added.linear.domain.extend([floor, _FREE if high is None else high - constant])

    def minimise(self, terms: Terms) -> None:
        """The objective; columns only."""
        for coefficient, column in terms:
            self.proto.objective.vars.append(column)
            self.proto.objective.coeffs.append(coefficient)

    def hint(self, values: dict[int, int]) -> None:
        """A point to start from, in part."""
        self.proto.solution_hint.vars.extend(values.keys())
        self.proto.solution_hint.values.extend(values.values())


@dataclass(frozen=True, slots=True)
class Found:
    """How a search ended; the bound is that of the whole-number objective."""

    answer: Answer
    values: list[int] | None
    bound: int


@dataclass(frozen=True, slots=True)
class Effort:
    """How to search."""

    time_limit_s: float
    seed: int = 0
    workers: int = 1
    gap: float = 0.0
    work: float = math.inf
    """Deterministic seconds."""
    linearization: int = 1


def search(
    program: Program,
    effort: Effort,
    on_point: Callable[[list[int], int], None] | None = None,
    reached: float = math.inf,
) -> Found:
    """Minimises; deterministic for a seed unless time ended it.

    Args:
        reached: objective, in whole numbers, of a point of the program that is known.
    """
    if not may_hint(effort.time_limit_s, program.columns):
        program.proto.clear_solution_hint()
    parameters = cmh.SatParameters()
    parameters.random_seed = effort.seed
    parameters.num_workers = effort.workers
    parameters.linearization_level = effort.linearization
    parameters.interleave_search = effort.workers > 1
    parameters.max_time_in_seconds = max(effort.time_limit_s, 0.001)
    if math.isfinite(effort.work):
        parameters.max_deterministic_time = effort.work
    parameters.relative_gap_limit = effort.gap

    def on_values(values: list[int], bound: float) -> None:
        if on_point is not None:
            on_point(values, math.ceil(bound - 0.5))

    found = solve_trusted(parameters, program.proto, on_values if on_point else None, reached)
    if found.answer in (Answer.INFEASIBLE, Answer.FAILED):
        return Found(found.answer, None, 0)
    bound = math.ceil(found.bound - 0.5) if math.isfinite(found.bound) else 0
    return Found(found.answer, found.values, bound)


def settle(best: Incumbent, found: Found, cutoff_us: float, unit_us: float) -> None:
    """What a search below a cutoff has proved."""
    best.is_interrupted |= found.answer is Answer.INTERRUPTED
    best.hit_time_limit |= found.answer is Answer.TIME
    if found.answer is Answer.INFEASIBLE:
        best.is_infeasible = math.isinf(best.value_us)
        best.raise_bound(cutoff_us, NAME)
    elif found.answer is not Answer.FAILED:
        best.raise_bound(min(found.bound * unit_us, cutoff_us), NAME)
