"""A lower bound from messages and memory prices, proved in integers.

For any shifts m (what an edge e = (a, b) gives to its ends) and prices λ_t >= 0

    cost(x) >= Σ_i min_k θ_i(k) + Σ_e min_kl M~_e(k, l) - Σ_t λ_t·limit
    θ_i(k)     = costs_i(k) + Σ_t λ_t·use_t(i, k) + Σ_e m_e→i(k)
    M~_e(k, l) = M_e(k, l) - m_e→a(k) - m_e→b(l)

for every x within memory. Shifts are rounded to integers; λ_t = n_t / 2^s with integer n_t, and an
option's price of memory is rounded down, the constant up. So no rounding can make it wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.pairwise.data import (
    FORBIDDEN,
    LARGEST,
    Block,
    Pairwise,
    firsts,
    options_of,
)
from planner.solve.pairwise.memory import Memory
from planner.solve.pairwise.messages import Messages

Prices = Mapping[int, float]
"""λ of some moments, cost per byte; all others 0."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A bound and what proves it."""

    value: int
    """No plan costs less."""
    theta: IntArray
    """θ of each option: (Σ sizes,)."""
    shifts: IntArray
    """m of each edge's two ends, as `Messages.values`."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a plan cheaper than some value may use."""

    problem: Pairwise
    """Pairs that cannot be in one are forbidden."""
    options: BoolArray
    """Which options can be in one: (Σ sizes,)."""

    @property
    def pairs(self) -> int:
        """Finite pair costs left."""
        return int((self.problem.pairs < FORBIDDEN).sum())


def certify(messages: Messages, memory: Memory | None, prices: Prices) -> Certificate | None:
    """The bound of these messages and prices; None where numbers are too large to prove it."""
    problem = messages.problem
    rounded = np.rint(messages.shifts())
    if not np.isfinite(rounded).all() or (np.abs(rounded) >= LARGEST / 4).any():
        return None
    shifts = rounded.astype(np.int64)
    charge, constant = _memory_prices(problem, memory, prices)
    theta = problem.costs + charge
    np.add.at(theta, messages.receivers, shifts)
    theta[problem.costs >= FORBIDDEN] = FORBIDDEN
    least = np.minimum.reduceat(theta, firsts(problem.sizes)[:-1])
    value = sum(least.tolist()) - constant
    for _, left in _shifted(messages, shifts):
        value += sum(left.min(axis=(1, 2)).tolist())
    return Certificate(value, theta, shifts)


def _shifted(messages: Messages, shifts: IntArray) -> Iterator[tuple[Block, IntArray]]:
    """M~ of all edges, block by block."""
    sizes, edges = messages.problem.sizes, messages.problem.edges
    slots = firsts(sizes[edges].ravel())
    for block in messages.stacks:
        _, rows, columns = block.matrices.shape
        to_a = shifts[slots[2 * block.edges][:, None] + np.arange(rows)]
        to_b = shifts[slots[2 * block.edges + 1][:, None] + np.arange(columns)]
        yield block, block.matrices - to_a[:, :, None] - to_b[:, None, :]


def below(messages: Messages, certificate: Certificate, value: float) -> Left:
    """What a plan cheaper than `value` may use.

    A plan with option k of node i costs at least the bound, plus what θ_i(k) exceeds its least by,
    plus what the cheapest M~ in k's row exceeds its edge's least by, for every edge of i.
    """
    problem = messages.problem
    if not math.isfinite(value):
        return Left(problem, problem.costs < FORBIDDEN)
    least = np.minimum.reduceat(certificate.theta, firsts(problem.sizes)[:-1])
    excess = certificate.theta - np.repeat(least, problem.sizes)
    through, pairs = excess.copy(), problem.pairs.copy()
    degree = int(np.bincount(problem.edges.ravel(), minlength=1).max())
    most = LARGEST // (1 + degree)
    room = int(value) - certificate.value
    begins = firsts(problem.pair_sizes)
    for block, left in _shifted(messages, certificate.shifts):
        _, rows, columns = left.shape
        left -= left.min(axis=(1, 2), keepdims=True)
        a = options_of(problem, problem.edges[block.edges, 0], rows)
        b = options_of(problem, problem.edges[block.edges, 1], columns)
        np.add.at(through, a, np.minimum(left.min(axis=2), most))
        np.add.at(through, b, np.minimum(left.min(axis=1), most))
        left = np.minimum(left, LARGEST) + excess[a][:, :, None] + excess[b][:, None, :]
        place = begins[block.edges][:, None] + np.arange(rows * columns)
        pairs[place[(left >= room).reshape(place.shape)]] = FORBIDDEN
    return Left(replace(problem, pairs=pairs), through < room)


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
    np.add.at(total, memory.options, np.repeat(weight, memory.counts) * memory.sizes)
    constant = -(-sum(scaled.values()) * memory.limit >> shift)
    return total >> shift, constant


def priced(memory: Memory | None, prices: Prices, base: FloatArray) -> FloatArray:
    """`base` (node costs) plus what each option's memory costs, in floating point."""
    found = base.copy()
    if memory is None or not prices:
        return found
    before = np.zeros(memory.count + 1)
    for moment, price in prices.items():
        before[moment + 1] += price
    before = np.cumsum(before)
    weight = np.repeat(before[memory.spans[:, 1]] - before[memory.spans[:, 0]], memory.counts)
    np.add.at(found, memory.options, weight * memory.sizes)
    return found
