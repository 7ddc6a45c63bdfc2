"""The set of groups worth most that one slot holds below a cutoff on its load.

    max Σ_{v in S} p_v   subject to   Σ_{v in S} t_v + Σ_{nets that S cuts} c_n <= T

is a longest path with one resource through the layers of `frontier`. Labels (load, value) go
forward, state by state; a label is dropped that another of its state dominates, or whose
completion is worth no more than the best set known: for any rate r >= 0 at most

    value + r·(T - load) + H_r[state]        (`completions`)

The least over a few rates around the best one counts.

Source: S. Irnich, G. Desaulniers, Shortest path problems with resource constraints, 2005; bounds
by Lagrangian completion as in J. Lorenz, D. Raz, Operations Research Letters 28, 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.assign.completions import ROUNDING, Completions, Slot
from planner.solve.assign.frontier import Layer
from planner.solve.data import BoolArray, FloatArray, IntArray

LABELS = 2_000_000
"""In all layers together, shared alike; where more are left, the bound is that of those dropped."""
SETS = 12
"""Sets that a search returns at most, but for those of the rates."""


@dataclass(frozen=True, slots=True)
class Fullest:
    """What a slot holds at most."""

    bound: float
    """No set within the cutoff is worth more."""
    sets: list[BoolArray]
    """[group] -> is inside: sets within the cutoff, those worth most among them."""


@dataclass(slots=True)
class _Labels:
    """Beginnings of sets, up to one layer."""

    state: IntArray
    load_us: FloatArray
    value: FloatArray
    before: IntArray
    """Label of the layer before that each continues."""
    side: IntArray

    def take(self, chosen: IntArray | BoolArray) -> _Labels:
        """Some of them."""
        return _Labels(
            self.state[chosen],
            self.load_us[chosen],
            self.value[chosen],
            self.before[chosen],
            self.side[chosen],
        )


def fullest(slot: Slot, prices: FloatArray, margin: float, is_over: Callable[[], bool]) -> Fullest:
    """The set worth most, up to a margin; O(layers · labels · log labels).

    Args:
        prices: [group], of any sign.
        margin: the bound may be that much above the best set.
        is_over: asked between layers; the bound is that of the rates then.
    """
    rates = slot.completions(prices, is_over)
    search = _Search(slot, prices, rates, margin)
    sets = [found for at in rates if (found := slot.whole(prices, at)) is not None]
    for position in range(len(slot.layers)):
        if is_over():
            return Fullest(rates[0].bound, sets)
        search.step(position)
    most = float(search.labels.value.max(initial=0.0))
    bound = max(search.best + margin, search.dropped, most)
    bound += ROUNDING * float(np.abs(prices).sum())
    return Fullest(min(bound, rates[0].bound), [*search.sets(), *sets])


@dataclass(slots=True)
class _Point:
    """The best set so far: a label's beginning, a side, and the completion at a rate."""

    position: int
    before: int
    side: int
    state: int
    rate: Completions


class _Search:
    """Labels layer by layer."""

    def __init__(
        self, slot: Slot, prices: FloatArray, rates: Sequence[Completions], margin: float
    ) -> None:
        """From nothing: the empty set is worth nothing."""
        self.slot, self.prices, self.rates, self.margin = slot, prices, rates, margin
        self.best, self.dropped = 0.0, 0.0
        self.most = max(LABELS // len(slot.layers), 1)
        none = np.zeros(1, np.int64)
        self.labels = _Labels(none, np.zeros(1), np.zeros(1), none, none)
        self._history: list[tuple[IntArray, IntArray]] = []
        self._point: _Point | None = None

    def step(self, position: int) -> None:
        """Past one more group."""
        grown = self._grown(self.slot.layers[position])
        bound = np.full(len(grown.state), math.inf)
        for rate in self.rates:
            value = grown.value + rate.value[position + 1][grown.state]
            bound = np.minimum(bound, value + rate.rate * (self.slot.most_us - grown.load_us))
            self._complete(grown, value, rate, position)
        chosen = np.flatnonzero(bound > self.best + self.margin)
        keys = -grown.value[chosen], grown.load_us[chosen], grown.state[chosen]
        chosen = chosen[np.lexsort(keys)]
        chosen = chosen[_undominated(grown.state[chosen], grown.value[chosen])]
        if len(chosen) > self.most:
            least = np.partition(bound[chosen], -self.most)[-self.most]
            self.dropped = max(self.dropped, float(least))
            chosen = chosen[bound[chosen] > least]
        self.labels = grown.take(chosen)
        self._history.append((self.labels.before, self.labels.side))

    def _grown(self, layer: Layer) -> _Labels:
        """Every label with the group outside, and inside."""
        old, parts = self.labels, []
        for side, worth, more in self.slot.sides(layer, self.prices):
            load = old.load_us + more[old.state]
            fits = np.flatnonzero(load <= self.slot.most_us)
            state = layer.to[side][old.state]
            sides = np.full(len(fits), side)
            parts.append((state[fits], load[fits], old.value[fits] + worth, fits, sides))
        return _Labels(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _complete(
        self, grown: _Labels, value: FloatArray, rate: Completions, position: int
    ) -> None:
        """A better set, if a label with its completion at a rate is one."""
        rest = rate.load_us[position + 1][grown.state]
        whole = np.where(grown.load_us + rest <= self.slot.cutoff_us, value + rate.rate * rest, 0.0)
        at = int(whole.argmax()) if len(whole) else -1
        if at >= 0 and whole[at] > self.best:
            self.best = float(whole[at])
            before, side, state = grown.before[at], grown.side[at], grown.state[at]
            self._point = _Point(position, int(before), int(side), int(state), rate)

    def sets(self) -> list[BoolArray]:
        """The best set known, and the labels worth most that reached the end."""
        last = len(self.slot.layers)
        ends = np.argsort(-self.labels.value, kind="stable")[:SETS].tolist()
        found = [self._begun(last, label) for label in ends]
        point = self._point
        if point is None:
            return found
        best = self._begun(point.position, point.before)
        best[self.slot.layers[point.position].group] = bool(point.side)
        self.slot.complete(best, self.prices, point.rate, point.position + 1, point.state)
        return [best, *found]

    def _begun(self, position: int, label: int) -> BoolArray:
        """The set that a label in front of a layer stands for."""
        found = np.zeros(len(self.prices), np.bool_)
        for number in range(position - 1, -1, -1):
            before, side = self._history[number]
            found[self.slot.layers[number].group] = bool(side[label])
            label = int(before[label])
        return found


def _undominated(state: IntArray, value: FloatArray) -> BoolArray:
    """Of labels by state and load: those worth more than all before them in their state."""
    if not len(state):
        return np.zeros(0, np.bool_)
    span = 2 * float(value.max() - value.min()) or 1.0
    shifted = value + span * np.cumsum(np.append(0, np.diff(state) != 0))
    most = np.maximum.accumulate(shifted)
    return np.append(True, shifted[1:] > most[:-1])
