"""First plans, without a solver: one format throughout, greedy under prices, rounding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from planner.ir.problem import State
from planner.solve.data import BoolArray, Data, FloatArray
from planner.solve.formulation import Formulation, Linear
from planner.solve.support import with_levels

PRICE_STEPS = 16
"""Greedy plans tried between ignoring the limits and caring for nothing else."""


def _pick(data: Data, allowed: BoolArray, score: FloatArray) -> BoolArray | None:
    """Covers operators in order, each by the free option of least score per operator."""
    chosen = np.zeros(data.columns, dtype=np.bool_)
    covered = np.zeros(len(data.problem.ops), dtype=np.bool_)
    for op, members in enumerate(data.covering):
        if covered[op]:
            continue
        best, best_score = -1, np.inf
        for g in members:
            ops = data.problem.options[g].ops
            if not allowed[g] or score[g] / len(ops) >= best_score:
                continue
            if len(ops) == 1 or not any(covered[data.op_index[name]] for name in ops):
                best, best_score = g, score[g] / len(ops)
        if best < 0:
            return None
        chosen[best] = True
        covered[[data.op_index[name] for name in data.problem.options[best].ops]] = True
    return chosen


def _path(
    data: Data, state: State, available: set[State], usable: BoolArray, cost: FloatArray
) -> list[int] | None:
    """Cheapest chain of conversions from an available state: label correcting, few forms."""
    best: dict[State, tuple[float, list[int]]] = {state: (0.0, [])}
    waiting = [state]
    while waiting:
        target = waiting.pop()
        for v in data.into.get(target, ()):
            column = data.options + v
            source = data.problem.conversions[v].source
            price = best[target][0] + cost[column]
            if usable[column] and price < best.get(source, (np.inf, []))[0]:
                best[source] = (price, [*best[target][1], column])
                waiting.append(source)
    found = [best[source] for source in best if source in available]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _supply(data: Data, chosen: BoolArray, usable: BoolArray, cost: FloatArray) -> BoolArray | None:
    """Adds the conversions that the chosen options need; None where some state cannot be made."""
    options = [data.problem.options[g] for g in np.flatnonzero(chosen[: data.options])]
    available = {*data.given, *(state for option in options for state in option.makes)}
    needed = [state for option in options for state in option.needs]
    for state in (*needed, *data.problem.wanted):
        if state in available:
            continue
        chain = _path(data, state, available, usable, cost)
        if chain is None:
            return None
        chosen[chain] = True
        available.update(data.problem.conversions[column - data.options].target for column in chain)
    return with_levels(data, chosen)


def rounded(formulation: Formulation, allowed: BoolArray, values: FloatArray) -> BoolArray | None:
    """The plan nearest to a fractional one: each operator takes its largest share."""
    cost = formulation.weighted_latency().coefficients
    chosen = _pick(formulation.data, allowed, -values)
    return None if chosen is None else _supply(formulation.data, chosen, allowed, cost)


def seeds(
    formulation: Formulation, allowed: BoolArray, objective: Linear, limits: list[Linear]
) -> Iterator[BoolArray]:
    """Plans that may break limits: every uniform format, then greedy under rising prices.

    `limits` are what the limits bound, scaled so that 1 is the limit.
    """
    data = formulation.data
    cost = formulation.weighted_latency().coefficients
    formats = dict.fromkeys(option.format for option in data.problem.options)
    scores = [_uniform_score(data, objective, label) for label in formats]
    use = sum((limit.coefficients for limit in limits), np.zeros(data.columns))
    scores.append(objective.coefficients)
    if use.any():
        prices = objective.coefficients.sum() / use.sum() * np.logspace(-4, 4, PRICE_STEPS)
        scores += [objective.coefficients + price * use for price in prices]
    for score in scores:
        chosen = _pick(data, allowed, score)
        plan = None if chosen is None else _supply(data, chosen, allowed, cost)
        if plan is not None:
            yield plan


def _uniform_score(data: Data, objective: Linear, label: str) -> FloatArray:
    """Any option of the format before any other; among equals, the objective."""
    other = np.array([option.format != label for option in data.problem.options], dtype=np.float64)
    score = objective.coefficients.copy()
    sizes = np.array([len(option.ops) for option in data.problem.options], dtype=np.float64)
    score[: data.options] += other * sizes * (1.0 + 2.0 * score.sum())
    return score
