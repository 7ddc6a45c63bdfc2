"""A linear model over columns >= 0: binary choices and amounts (time, bytes, money).

Rows are `Σ a·x <= b` or `= b`. Amounts are whole multiples of a power of two, so that data in
halves and quarters stay exact; every row is rounded in the direction that cuts off no plan
(coefficients down, right-hand sides up), so that what is proved about the rounded model holds for
the real one. What leaves is re-priced by the checker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

STEPS = 2**24
"""Least number of steps an amount's range is cut into: 6e-8 of it each. The presolve of OR-Tools
9.15 multiplies coefficients when it substitutes: with 2^28 steps it was seen to call a feasible
model infeasible, silently."""
PRECISION = 1e-9
"""Relative rounding of one coefficient of a choice, for the same reason no finer."""
ROUNDED = 2**40
"""Steps that the sum of a rounded row is cut into."""
ROUNDING = 1e-4
"""Relative rounding of a sum of amounts times numbers that no power of two divides: 2^-16 and the
number of terms."""
LARGEST = 2**44
"""No integer sum exceeds this."""


@dataclass(frozen=True, slots=True)
class Column:
    """A variable between 0 and `upper`, a whole multiple of `unit`."""

    name: str
    upper: float
    unit: float

    @property
    def steps(self) -> int:
        """The largest multiple."""
        return math.ceil(self.upper / self.unit)


@dataclass(frozen=True, slots=True)
class LinearRow:
    """Σ coefficient·column <= (or =) rhs; the name starts with the constraint's id."""

    name: str
    terms: tuple[tuple[int, float], ...]
    rhs: float
    is_equality: bool = False


@dataclass(frozen=True, slots=True)
class IntegerRow:
    """The same row in whole numbers of each column's units."""

    columns: tuple[int, ...]
    coefficients: tuple[int, ...]
    low: int
    high: int


@dataclass(slots=True)
class Model:
    """Columns and rows, in the order they were added."""

    columns: list[Column] = field(default_factory=list)
    rows: list[LinearRow] = field(default_factory=list)
    is_exact: bool = True
    """False once a row of amounts was rounded."""

    def choice(self, name: str) -> int:
        """A new binary column."""
        self.columns.append(Column(name, 1.0, 1.0))
        return len(self.columns) - 1

    def amount(self, name: str, upper: float) -> int:
        """A new amount between 0 and `upper`."""
        unit = 2.0 ** math.ceil(math.log2(max(upper, 1e-300) / STEPS))
        self.columns.append(Column(name, max(upper, unit), unit))
        return len(self.columns) - 1

    def at_most(self, name: str, terms: Mapping[int, float], rhs: float) -> None:
        """Adds Σ terms <= rhs."""
        self.rows.append(LinearRow(name, _clean(terms), rhs))

    def equal(self, name: str, terms: Mapping[int, float], rhs: float) -> None:
        """Adds Σ terms = rhs; every term must be a whole number."""
        self.rows.append(LinearRow(name, _clean(terms), rhs, is_equality=True))

    def integer(self, row: LinearRow) -> IntegerRow:
        """A row in whole numbers, relaxed by rounding where it is not whole already."""
        units = [self.columns[column].unit for column, _ in row.terms]
        sizes = [a * unit for (_, a), unit in zip(row.terms, units, strict=True)]
        columns = tuple(column for column, _ in row.terms)
        unit = self.row_unit(row)
        whole = tuple(math.floor(size / unit) for size in sizes)
        rhs = min(max(row.rhs / unit, -LARGEST), LARGEST)
        is_whole = all(size == steps * unit for size, steps in zip(sizes, whole, strict=True))
        # sums of whole numbers: 1.000000001 means 1
        high = math.floor(rhs + 1e-6 + 1e-12 * abs(rhs)) if is_whole else math.ceil(rhs)
        return IntegerRow(columns, whole, high if row.is_equality else -LARGEST, high)

    def row_unit(self, row: LinearRow) -> float:
        """Real value of one step of a row: the largest that loses nothing, else a fine one."""
        sizes = [abs(a) * self.columns[column].unit for column, a in row.terms if a]
        total = math.fsum(abs(a) * self.columns[column].upper for column, a in row.terms) + abs(
            row.rhs
        )
        exact = _common_unit(sizes)
        if exact is not None and total / exact < LARGEST:
            return exact
        if all(self.columns[column].unit == 1.0 for column, _ in row.terms):
            return max(PRECISION * max(sizes, default=1.0), total / LARGEST)
        self.is_exact = False
        return float(2.0 ** math.ceil(math.log2(max(total, 1e-300) / ROUNDED)))


def _clean(terms: Mapping[int, float]) -> tuple[tuple[int, float], ...]:
    return tuple((column, float(a)) for column, a in terms.items() if a)


def _common_unit(sizes: Iterable[float]) -> float | None:
    """The largest power of two that divides all sizes; None where it is below 2^-40 of one."""
    unit = math.inf
    for size in sizes:
        mantissa, exponent = math.frexp(size)
        whole = int(mantissa * 2**53)
        lowest = (whole & -whole).bit_length() - 1
        if lowest < 53 - 42:
            return None
        unit = min(unit, 2.0 ** (exponent - 53 + lowest))
    return unit if math.isfinite(unit) else 1.0
