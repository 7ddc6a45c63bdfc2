"""Which memory prices to try next: cutting planes over the plans seen so far.

Every plan x bounds the Lagrangian from above: L(λ) <= cost(x) + Σ_t λ_t·(use_t(x) - limit). The
prices that maximise the least of these (Kelley 1960) are mixed with the best ones found (in-out
separation, Ben-Ameur and Neto 2007): few moments have a price, and those settle quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planner.solve.data import FloatArray, IntArray
from planner.solve.lp import LinearProgram, NoVertex, minimise
from planner.solve.pairwise.bound import Prices

REMEMBERED = 150
"""Plans kept; beyond, those least binding at the best prices are forgotten."""
RECENT = 20
"""Plans kept whatever they bind."""
STEP = 0.5
"""Share of the way from the best prices to the proposed ones."""
LARGEST_PRICE = 100.0
"""Of a limit's worth of bytes, in units of the dearest plan: beyond, memory decides alone."""


@dataclass(slots=True)
class Master:
    """Plans as cuts, and the moments at which they exceed the limit."""

    limit: int
    costs: list[int] = field(default_factory=list)
    uses: list[IntArray] = field(default_factory=list)
    moments: set[int] = field(default_factory=set)

    def add(self, cost: int, use: IntArray) -> None:
        """A plan, within memory or not."""
        self.costs.append(cost)
        self.uses.append(use)
        worst = int(use.argmax())
        if use[worst] > self.limit:
            self.moments.add(worst)

    def propose(self, center: Prices) -> Prices:
        """Prices to try next, from the best ones so far."""
        if not self.moments:
            return {}
        if len(self.costs) > REMEMBERED:
            self._forget(center)
        moments = sorted(self.moments)
        over = np.array([(use[moments] - self.limit) / self.limit for use in self.uses])
        scale = float(max(max(map(abs, self.costs)), 1))
        vertex = minimise(
            LinearProgram(
                costs=np.append(np.zeros(len(moments)), -1.0),
                matrix=np.column_stack([-over, np.ones(len(over))]),
                rhs=np.array(self.costs, dtype=np.float64) / scale,
                lower=np.append(np.zeros(len(moments)), -np.inf),
                upper=np.append(np.full(len(moments), LARGEST_PRICE), np.inf),
            )
        )
        if isinstance(vertex, NoVertex):
            return dict(center)
        aimed = dict(zip(moments, vertex.values[:-1] * (scale / self.limit), strict=True))
        mixed = {
            t: (1 - STEP) * center.get(t, 0.0) + STEP * float(aimed.get(t, 0.0))
            for t in sorted({*aimed, *center})
        }
        floor = 1e-7 * scale / self.limit
        return {t: price for t, price in mixed.items() if price > floor}

    def _forget(self, center: Prices) -> None:
        moments, prices = list(center), np.array(list(center.values()))
        values: FloatArray = np.array(
            [
                cost + float(prices @ (use[moments] - self.limit)) if moments else cost
                for cost, use in zip(self.costs, self.uses, strict=True)
            ]
        )
        first_recent = len(values) - RECENT
        binding = np.argsort(values[:first_recent], kind="stable")[: REMEMBERED // 2]
        kept = [*sorted(binding.tolist()), *range(first_recent, len(values))]
        self.costs = [self.costs[number] for number in kept]
        self.uses = [self.uses[number] for number in kept]
