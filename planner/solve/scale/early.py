"""A first plan before anything is bounded: one place repeated, options operator by operator.

Labels, edges and the first multipliers of two thousand operators with thirty options each take
seconds. A plan of single operators at one place needs none of them: two prices, of error and of
bytes, found by bisection over sums (Everett, Operations Research 11, 1963), choose each operator's
option, in order, with the conversion that it would need from what is already there. Streams and the
checker do the rest. It proves nothing and only has to be there early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.ir.problem import Conversion, Option, Problem
from planner.solve.data import FloatArray, IntArray
from planner.solve.scale.complete import Completer
from planner.solve.scale.labels import Stages
from planner.solve.scale.sizes import capacity_bytes
from planner.solve.scale.staged import Staged
from planner.solve.scale.stages import is_affordable
from planner.solve.scale.tables import Table, held_bytes, tables_of
from planner.solve.stages.exact import Exact

MANY_OPTIONS = 10_000
"""Options from which the way to the first plan by cuts takes more than a second."""
ROOM = 0.9
"""Share of a device's memory that weights may take: the rest is for activations."""
BUDGET = (0.95, 0.8, 0.6)
"""Shares of the error budget that prices aim at, one after another: conversions change choices."""
PRICES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Of all memory of a device, relative to the time of the whole at its place."""
OVERFLOW = 4.0
"""Charge of what does not fit, relative to the time of the whole: some streams for nothing."""
TRIED = 4
"""Sequences of places, those of least estimates."""


@dataclass(frozen=True, slots=True)
class _Way:
    """Stages at one place, and the price of bytes there."""

    estimate_us: float
    place: int
    stages: int
    byte_us: float


def offer_early(state: Exact, row: int, number: int) -> None:
    """Offers a plan of stages at one place, where there are many options and such a plan exists."""
    problem = state.problem
    if len(problem.options) < MANY_OPTIONS or state.remaining_s <= 0:
        return
    tables, completer = tables_of(problem, row), Completer(problem, row)
    for way in sorted(_ways(problem, row, tables), key=lambda each: each.estimate_us)[:TRIED]:
        chooser = _Chooser(problem, row, way.place, tables[way.place])
        for share in BUDGET:
            if state.remaining_s <= 0:
                return
            chosen = _chosen(problem, way, chooser, share)
            if chosen is None:
                continue
            sizes = np.array([held_bytes(problem.options[g]) for g in chosen], dtype=np.float64)
            stages = Stages((problem.places[way.place],) * way.stages, _even(sizes, way.stages))
            staged = Staged(state, row, stages, number, 0.0, completer)
            options = dict(zip(chosen, stages.of.tolist(), strict=True))
            staged.offer(options, "operator by operator")
            if state.best is not None:
                return


def _chosen(problem: Problem, way: _Way, chooser: _Chooser, share: float) -> list[int] | None:
    """An option for each operator, within a share of the error budget."""
    limit = problem.limits.error
    price = chooser.table.error_price(way.byte_us, None if limit is None else share * limit)
    return None if price is None else chooser.choose(way.byte_us, price)


def _even(sizes: FloatArray, stages: int) -> IntArray:
    """Stages of equal bytes, in order."""
    total = float(sizes.sum())
    if total <= 0:
        return np.zeros(len(sizes), dtype=np.int64)
    middle = (sizes.cumsum() - sizes / 2) / total
    return np.minimum((middle * stages).astype(np.int64), stages - 1)


def _ways(problem: Problem, row: int, tables: dict[int, Table]) -> list[_Way]:
    """The best price of bytes for every number of stages at every place."""
    limit, found = problem.limits.error, list[_Way]()
    for k, table in tables.items():
        capacity = ROOM * capacity_bytes(problem, row, k)
        if capacity <= 0:
            continue
        whole = float(table.us.sum()) * len(table.starts) / max(len(table.us), 1)
        sums = []
        for price in PRICES if math.isfinite(capacity) else PRICES[:1]:
            byte_us = price * whole / capacity if math.isfinite(capacity) else 0.0
            error_us = table.error_price(byte_us, limit)
            if error_us is not None:
                us, _, size = table.least(byte_us, error_us)
                sums.append((us, size, byte_us))
        for count in range(1, problem.stages + 1):
            if not sums or not is_affordable(problem, (k,) * count):
                break
            costs = [
                (us + OVERFLOW * whole * max(size / (count * capacity) - 1.0, 0.0), byte_us)
                for us, size, byte_us in sums
            ]
            found.append(_Way(min(costs)[0], k, count, min(costs)[1]))
    return found


class _Chooser:
    """Options at one place, in the order of the operators."""

    def __init__(self, problem: Problem, row: int, place: int, table: Table) -> None:
        self.table = table
        self._problem = problem
        name = problem.places[place].name
        self._steps: dict[str, list[tuple[str, str, float]]] = {}
        for change in problem.conversions:
            if change.place in (None, name):
                step = change.source.form, change.target.form, self._us(change, row)
                self._steps.setdefault(change.source.tensor, []).append(step)

    def _us(self, change: Conversion, row: int) -> float:
        pairs = zip(self._problem.shape_weights, change.latency[row], strict=True)
        return math.fsum(q * c.expected_us if c is not None else math.inf for q, c in pairs)

    def choose(self, byte_us: float, error_us: float) -> list[int] | None:
        """An option for each operator; None where one has none whose forms can be had."""
        table, options = self.table, self._problem.options
        prices = (table.us + byte_us * table.held_bytes + error_us * table.error).tolist()
        there: dict[str, set[str]] = {}
        for state in self._problem.given:
            there.setdefault(state.tensor, set()).add(state.form)
        numbers, ends = table.number.tolist(), [*table.starts.tolist()[1:], len(prices)]
        chosen, first = [], 0
        for last in ends:
            ways = [
                (prices[n] + self._change_us(options[numbers[n]], there), n)
                for n in range(first, last)
            ]
            cost, best = min(ways)
            if cost == math.inf:
                return None
            chosen.append(numbers[best])
            for state in options[numbers[best]].needs:
                there.setdefault(state.tensor, set()).add(state.form)
            for state in options[numbers[best]].makes:
                there.setdefault(state.tensor, set()).add(state.form)
            first = last
        return chosen

    def _change_us(self, option: Option, there: dict[str, set[str]]) -> float:
        """Of conversions that an option needs, a step each."""
        total = 0.0
        for state in option.needs:
            have = there.get(state.tensor, set())
            if state.form not in have:
                steps = self._steps.get(state.tensor, ())
                total += min(
                    (us for a, b, us in steps if b == state.form and a in have), default=math.inf
                )
        return total
