"""A lower bound from messages and memory prices, proved in integers.

For any shifts m (what an edge e = (a, b) gives to its ends) and prices λ_t >= 0

    cost(x) >= Σ_i min_k θ_i(k) + Σ_e min_kl M~_e(k, l) - Σ_t λ_t·limit
    θ_i(k)     = costs_i(k) + Σ_t λ_t·use_t(i, k) + Σ_e m_e→i(k)
    M~_e(k, l) = M_e(k, l) - m_e→a(k) - m_e→b(l)

for every x within memory. Shifts are rounded to integers; λ_t = n_t / 2^s with integer n_t, and an
option's price of memory is rounded down, the constant up. So no rounding can make it wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.pairwise.data import FORBIDDEN, LARGEST, Pairwise, blocks, firsts, options_of
from planner.solve.pairwise.memory import Memory
from planner.solve.pairwise.messages import Messages

Prices = Mapping[int, float]
"""λ of some moments, cost per byte; all others 0."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What is proved, and for each option and pair what is proved when it is used."""

    value: int
    options: IntArray
    """No plan with this option costs less: (Σ sizes,)."""
    pairs: IntArray
    """No plan with both ends' options costs less: as `Pairwise.pairs`."""


def certify(messages: Messages, memory: Memory | None, prices: Prices) -> Bound | None:
    """The bound of these messages and prices; None where numbers are too large to prove it."""
    problem = messages.problem
    shifts = np.rint(messages.shifts())
    if not np.isfinite(shifts).all() or (np.abs(shifts) >= LARGEST / 4).any():
        return None
    shifts = shifts.astype(np.int64)
    charge, constant = _memory_prices(problem, memory, prices)
    theta = problem.costs + charge
    np.add.at(theta, messages.receivers(), shifts)
    theta[problem.costs >= FORBIDDEN] = FORBIDDEN
    begins = firsts(problem.sizes)[:-1]
    least = np.minimum.reduceat(theta, begins)
    excess = theta - np.repeat(least, problem.sizes)
    value = sum(least.tolist()) - constant
    pair_excess = np.empty_like(problem.pairs)
    slots, entries = firsts(problem.sizes[problem.edges].ravel()), firsts(problem.pair_sizes)
    through = excess.copy()
    most = LARGEST // (1 + int(np.bincount(problem.edges.ravel(), minlength=1).max()))
    for block in blocks(problem):
        _, rows, columns = block.matrices.shape
        to_a = shifts[slots[2 * block.edges][:, None] + np.arange(rows)]
        to_b = shifts[slots[2 * block.edges + 1][:, None] + np.arange(columns)]
        left = block.matrices - to_a[:, :, None] - to_b[:, None, :]
        lowest = left.min(axis=(1, 2))
        value += sum(lowest.tolist())
        left -= lowest[:, None, None]
        a = options_of(problem, problem.edges[block.edges, 0], rows)
        b = options_of(problem, problem.edges[block.edges, 1], columns)
        np.add.at(through, a, np.minimum(left.min(axis=2), most))
        np.add.at(through, b, np.minimum(left.min(axis=1), most))
        left = np.minimum(left, LARGEST) + excess[a][:, :, None] + excess[b][:, None, :]
        place = entries[block.edges][:, None] + np.arange(rows * columns)
        pair_excess[place] = left.reshape(len(block.edges), -1)
    return Bound(value, value + through, value + pair_excess)


def without(problem: Pairwise, bound: Bound, value: int) -> tuple[Pairwise, BoolArray]:
    """What a plan cheaper than `value` may use: pairs that cannot be in one are forbidden.

    Returns the problem and which options are left.
    """
    pairs = np.where(bound.pairs >= value, FORBIDDEN, problem.pairs)
    return replace(problem, pairs=pairs), bound.options < value


def _memory_prices(
    problem: Pairwise, memory: Memory | None, prices: Prices
) -> tuple[IntArray, int]:
    """Σ_t λ_t·use_t of each option, rounded down, and Σ_t λ_t·limit, rounded up."""
    total = np.zeros(len(problem.costs), dtype=np.int64)
    if memory is None or not prices:
        return total, 0
    shift = memory.precision(prices)
    scaled = {moment: int(price * 2.0**shift) for moment, price in prices.items()}
    before = np.zeros(memory.count + 1, dtype=np.int64)
    for moment, number in scaled.items():
        before[moment + 1] += number
    before = np.cumsum(before)
    weight = before[memory.spans[:, 1]] - before[memory.spans[:, 0]]
    counts = problem.sizes[memory.nodes]
    np.add.at(total, memory.options, np.repeat(weight, counts) * memory.sizes)
    constant = -(-sum(scaled.values()) * memory.limit >> shift)
    return total >> shift, constant


def priced(
    problem: Pairwise, memory: Memory | None, prices: Prices, base: FloatArray
) -> FloatArray:
    """`base` (node costs) plus what each option's memory costs, in floating point."""
    found = base.copy()
    if memory is None or not prices:
        return found
    before = np.zeros(memory.count + 1)
    for moment, price in prices.items():
        before[moment + 1] += price
    before = np.cumsum(before)
    weight = before[memory.spans[:, 1]] - before[memory.spans[:, 0]]
    np.add.at(found, memory.options, np.repeat(weight, problem.sizes[memory.nodes]) * memory.sizes)
    return found
