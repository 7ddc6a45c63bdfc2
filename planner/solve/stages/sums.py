"""Sums as rows."""

from __future__ import annotations

from collections.abc import Iterable

from planner.solve.stages.model import StageModel, Sum


def at_most(m: StageModel, name: str, left: Sum, right: Sum) -> None:
    """left <= right."""
    difference = left.plus(right, -1.0)
    m.model.at_most(name, difference.terms, -difference.constant)


def sum_of(columns: Iterable[int]) -> Sum:
    """Σ columns."""
    return Sum(dict.fromkeys(columns, 1.0))


def one(value: float) -> Sum:
    """A constant."""
    return Sum(constant=value)
