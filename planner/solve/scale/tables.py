"""Options of single operators at one place, and the cheapest of them under prices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.ir.problem import Option, Problem
from planner.solve.data import FloatArray, IntArray

HALVINGS, CLOSE = 40, 1.01
"""Of the interval of the price of error, at most, and the factor at which its ends are close;"""
DEAR, CHEAP = 1e6, 1e-12
"""its upper end, in times of the whole for all of the budget, and its lower end, relative to it."""


@dataclass(frozen=True, slots=True)
class Table:
    """Options of single operators at one place, by operator."""

    number: IntArray
    """Of each option in the problem."""
    starts: IntArray
    """First option of each operator."""
    us: FloatArray
    error: FloatArray
    held_bytes: FloatArray

    def least(self, byte_us: float, error_us: float) -> tuple[float, float, float]:
        """Time, error and bytes of the cheapest options under two prices."""
        price = self.us + byte_us * self.held_bytes + error_us * self.error
        least = np.minimum.reduceat(price, self.starts)
        owner = np.repeat(np.arange(len(self.starts)), np.diff([*self.starts, len(price)]))
        hits = np.flatnonzero(price == least[owner])
        first = hits[np.unique(owner[hits], return_index=True)[1]]
        sums = (each[first].sum() for each in (self.us, self.error, self.held_bytes))
        us, error, size = map(float, sums)
        return us, error, size

    def error_price(self, byte_us: float, limit: float | None) -> float | None:
        """The least price of error that keeps the limit; None where no price does."""
        if limit is None or self.least(byte_us, 0.0)[1] <= limit:
            return 0.0
        high = DEAR * float(self.us.sum() or 1.0) / max(limit, CHEAP)
        low = CHEAP * high
        if self.least(byte_us, high)[1] > limit:
            return None
        for _ in range(HALVINGS):
            middle = math.sqrt(low * high)
            keeps = self.least(byte_us, middle)[1] <= limit
            low, high = (low, middle) if keeps else (middle, high)
            if high <= CLOSE * low:
                break
        return high


def tables_of(problem: Problem, row: int) -> dict[int, Table]:
    """By place: those where every operator has an option of its own."""
    index = {name: op for op, name in enumerate(problem.ops)}
    names = {place.name: k for k, place in enumerate(problem.places)}
    weights, known = problem.shape_weights, dict[int, float]()
    anywhere: list[tuple[int, int]] = []
    homes: list[list[tuple[int, int]]] = [[] for _ in problem.places]
    us = np.zeros(len(problem.options))
    for g, option in enumerate(problem.options):
        if len(option.ops) > 1:
            continue
        found = known.get(id(option.latency))
        if found is None:
            cells = option.latency[row]
            found = math.fsum(
                q * cell.expected_us if cell is not None else math.inf
                for q, cell in zip(weights, cells, strict=True)
            )
            known[id(option.latency)] = found
        us[g] = found
        if math.isfinite(found):
            mine = anywhere if option.place is None else homes[names[option.place]]
            mine.append((index[option.ops[0]], g))
    found_tables: dict[int, Table] = {}
    for k, home in enumerate(homes):
        pairs = sorted([*home, *anywhere])
        ops = np.array([op for op, _ in pairs], dtype=np.int64)
        if len(np.unique(ops)) == len(problem.ops):
            numbers = np.array([g for _, g in pairs], dtype=np.int64)
            options = [problem.options[g] for _, g in pairs]
            found_tables[k] = Table(
                numbers,
                np.searchsorted(ops, np.arange(len(problem.ops))),
                us[numbers],
                np.array([option.error for option in options]),
                np.array([held_bytes(option) for option in options], dtype=np.float64),
            )
    return found_tables


def held_bytes(option: Option) -> int:
    """On each device, resident."""
    return option.weight_size_bytes + option.cache_size_bytes
