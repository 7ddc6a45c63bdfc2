"""What a slot can still take behind each state of its walks, at a price of load.

For a rate r >= 0 and prices p, H_r[state] is the most of

    Σ_{v taken} p_v - r·(their time, and crossings that become certain)

over all ways to go on from the state: one pass backwards through the layers of `frontier`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.assign.frontier import Layer
from planner.solve.data import BoolArray, FloatArray

TRIED, KEPT = 14, 5
"""Rates that are tried, by bisection, and that are kept."""
ROUNDING = 1e-10
"""Relative, for sums of floats: loads may be that much above the cutoff."""


@dataclass(frozen=True, slots=True)
class Completions:
    """The best ways on at one rate."""

    rate: float
    bound: float
    """No set within the cutoff is worth more."""
    value: list[FloatArray]
    """H_r: [layer][state before it], and behind the last."""
    load_us: list[FloatArray]
    """Of the way on that H_r is the value of."""


@dataclass(slots=True)
class Slot:
    """A kind's slot: its walks, the time of each group and the cutoff on its load."""

    layers: Sequence[Layer]
    time_us: FloatArray
    cutoff_us: float

    @property
    def most_us(self) -> float:
        """The cutoff, with room for sums of floats."""
        return self.cutoff_us * (1 + ROUNDING)

    def sides(self, layer: Layer, prices: FloatArray) -> list[tuple[int, float, FloatArray]]:
        """(side, value, load from each state) of a group that stays out, or goes in if it can."""
        outside = (0, 0.0, layer.paid_us[0])
        time = float(self.time_us[layer.group])
        if not time <= self.most_us:
            return [outside]
        return [outside, (1, float(prices[layer.group]), layer.paid_us[1] + time)]

    def completions(self, prices: FloatArray, is_over: Callable[[], bool]) -> list[Completions]:
        """Those at the rates that bound best, best first.

        The load of what is best at a rate falls with it: the best rate is where it passes the
        cutoff.
        """
        low, high = 0.0, math.inf
        rate = float(np.abs(prices).sum()) / self.cutoff_us
        tried: list[Completions] = []
        while len(tried) < TRIED and not (tried and is_over()):
            tried.append(self._at(rate, prices))
            if tried[-1].load_us[0][0] > self.cutoff_us:
                low = rate
            else:
                high = rate
            rate = 2 * rate if math.isinf(high) else (low + high) / 2
        return sorted(tried, key=lambda found: found.bound)[:KEPT]

    def _at(self, rate: float, prices: FloatArray) -> Completions:
        value, load = [np.zeros(1)], [np.zeros(1)]
        for layer in reversed(self.layers):
            ways = [
                (value[-1][layer.to[side]] + worth - rate * more, load[-1][layer.to[side]] + more)
                for side, worth, more in self.sides(layer, prices)
            ]
            best, taken = ways[0]
            for other, more in ways[1:]:
                is_better = other > best
                best, taken = np.where(is_better, other, best), np.where(is_better, more, taken)
            value.append(best)
            load.append(taken)
        bound = rate * self.most_us + float(value[-1][0])
        return Completions(rate, bound, value[::-1], load[::-1])

    def whole(self, prices: FloatArray, at: Completions) -> BoolArray | None:
        """The best set at a rate, if it is within the cutoff."""
        found = np.zeros(len(prices), np.bool_)
        load = self.complete(found, prices, at, 0, 0)
        return found if load <= self.most_us else None

    def complete(
        self, found: BoolArray, prices: FloatArray, at: Completions, position: int, state: int
    ) -> float:
        """Goes on from a state as is best at a rate; returns the load of that."""
        load = 0.0
        for number in range(position, len(self.layers)):
            layer, behind = self.layers[number], at.value[number + 1]
            worths = {
                side: behind[layer.to[side, state]] + worth - at.rate * more[state]
                for side, worth, more in self.sides(layer, prices)
            }
            side = max(worths, key=worths.__getitem__)  # outside where both are alike
            found[layer.group] = bool(side)
            load += float(layer.paid_us[side, state])
            load += float(self.time_us[layer.group]) if side else 0.0
            state = int(layer.to[side, state])
        return load
