"""Bounds and plans from one loop: message passing at memory prices, plans from its messages.

A round: passes messages at the present prices, proves the bound, decodes a plan, improves it and
the round before's by exact forest moves, gives both to the master, takes its next prices.
"""

from __future__ import annotations

import math
from time import monotonic

import numpy as np

from planner.solve.data import FloatArray, IntArray
from planner.solve.pairwise.bound import Certificate, Left, Prices, below, certify, priced
from planner.solve.pairwise.data import FORBIDDEN, Pairwise, finite_or_infinite
from planner.solve.pairwise.decode import Decoder, cost_of
from planner.solve.pairwise.forests import Forest, Forests
from planner.solve.pairwise.master import Master
from planner.solve.pairwise.memory import Memory, memory
from planner.solve.pairwise.messages import Messages

FIRST_SWEEPS = 20
"""Before the first plan."""
SWEEPS = 5
"""At each price, on large problems."""
SMALL = 200_000
"""Pair costs up to which messages settle at each price."""
SMALL_SWEEPS = 12
MOVES = 6
"""Forest moves of a plan a round."""
REPAIRS = 10
"""Forest moves at most to bring a plan within memory,"""
PUSH = 0.02
"""the share of all prices that a moment over its limit pays more in the first of them,"""
GROWTH = 1.6
"""and how that grows from one to the next."""
FITS = 40
"""Forest moves at most to bring the first plan within memory at all moments."""
FORESTS = 12
"""Different forests; a move takes one at random."""


class Dual:
    """The state of the loop on one problem."""

    def __init__(self, problem: Pairwise, seed: int, deadline: float = math.inf) -> None:
        """O(entries). After the deadline a round ends at the next step that it can."""
        self._deadline = deadline
        self.problem = problem
        self.memory: Memory | None = memory(problem)
        self.best: IntArray | None = None
        self.value = math.inf
        """Cost of the best plan within memory."""
        self.certificate: Certificate | None = None
        self._sweeps = SMALL_SWEEPS if len(problem.pairs) <= SMALL else SWEEPS
        self.rounds = 0
        self._rng = np.random.default_rng(seed)
        self._base = finite_or_infinite(problem.costs)
        self._messages = Messages(problem)
        for _ in range(FIRST_SWEEPS):
            self._messages.sweep()
            if self._is_over:
                break
        self._decoder = Decoder(problem)
        self._forests = Forests(problem)
        self._orders = [self._rng.permutation(problem.nodes) for _ in range(FORESTS)]
        self._grown: dict[int, Forest] = {}
        self._master = Master(problem.limit or 0)
        self._prices: Prices = {}
        self._center: Prices = {}
        self._last: IntArray | None = None

    @property
    def moments(self) -> list[int]:
        """At which some plan exceeded the limit."""
        return sorted(self._master.moments)

    @property
    def proved(self) -> float:
        """The best bound; no bound yet: minus infinity."""
        return -math.inf if self.certificate is None else self.certificate.value

    def below(self, value: float) -> Left:
        """What a plan cheaper than `value` may use, as far as is proved."""
        if self.certificate is None:
            return Left(self.problem, self.problem.costs < FORBIDDEN)
        return below(self._messages, self.certificate, value)

    def round(self) -> None:
        """One round; `best`, `value` and `proved` never get worse."""
        self.rounds += 1
        prices = priced(self.memory, self._prices, self._base)
        self._messages.reprice(prices)
        self._messages.sweep(self._sweeps)
        found = certify(self._messages, self.memory, self._prices)
        if found is not None and found.value > self.proved:
            self.certificate, self._center = found, self._prices
        plans = [self._decoder.decode(self._messages)]
        if self.best is None:
            self._fit(plans[0])
        if self._last is not None:
            plans.append(self._last)
        self._last = min((self._improved(plan, prices) for plan in plans), key=lambda p: p[0])[1]
        self._repair(self._last)
        if self.best is not None and not self._is_over:
            self._improved(self.best, prices)
        self._prices = self._master.propose(self._center)

    def offer(self, plan: IntArray) -> int | None:
        """Takes a plan as the best if it is; its cost, None where it is forbidden."""
        cost = cost_of(self.problem, plan)
        if cost is None:
            return None
        is_within = True
        if self.memory is not None:
            use = self.memory.use(plan)
            is_within = int(use.max()) <= self.memory.limit
            self._master.add(cost, use)
        if is_within and cost < self.value:
            self.best, self.value = plan, cost
        return cost

    def _repair(self, plan: IntArray) -> None:
        """Raises the prices of moments over the limit until forest moves bring a plan within it."""
        if self.memory is None or self._master.limit == 0:
            return
        prices = dict(self._prices)
        step = PUSH * (
            sum(prices.values()) or abs(cost_of(self.problem, plan) or 0) / self._master.limit
        )
        for _ in range(REPAIRS):
            use = self.memory.use(plan)
            worst = int(use.argmax())
            if use[worst] <= self.memory.limit or self._is_over:
                break
            prices[worst] = prices.get(worst, 0.0) + step
            step *= GROWTH
            plan = self._move(plan, priced(self.memory, prices, self._base))
        self.offer(plan)

    def _fit(self, plan: IntArray) -> None:
        """The first plan within memory: all moments over the limit pay more until none is left."""
        if self.memory is None or self._master.limit == 0:
            return
        prices = dict(self._prices)
        step = PUSH * abs(cost_of(self.problem, plan) or 1) / self._master.limit
        for _ in range(FITS):
            over = np.flatnonzero(self.memory.use(plan) > self.memory.limit)
            if not len(over) or self._is_over:
                break
            prices.update((t, prices.get(t, 0.0) + step / len(over)) for t in over.tolist())
            step *= GROWTH
            plan = self._move(plan, priced(self.memory, prices, self._base))
        self.offer(plan)

    @property
    def _is_over(self) -> bool:
        return monotonic() > self._deadline

    def _move(self, plan: IntArray, prices: FloatArray) -> IntArray:
        number = int(self._rng.integers(FORESTS))
        if number not in self._grown:
            self._grown[number] = self._forests.over(self._orders[number].tolist())
        forest = self._grown[number]
        return self._forests.improve(forest, plan, prices)

    def _improved(self, plan: IntArray, prices: FloatArray) -> tuple[float, IntArray]:
        """(Priced cost, plan) after some forest moves."""
        for _ in range(MOVES):
            if self._is_over:
                break
            plan = self._move(plan, prices)
        cost = self.offer(plan)
        if cost is None:
            return math.inf, plan
        if self.memory is None:
            return float(cost), plan
        use = self._master.uses[-1]
        charge = sum(price * float(use[t] - self.memory.limit) for t, price in self._prices.items())
        return cost + charge, plan
