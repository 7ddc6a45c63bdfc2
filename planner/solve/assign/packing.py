"""A lower bound on the largest load from what single slots can hold: a packing of sets.

A plan below a cutoff T gives every slot a set of groups whose work, with the nets it cuts, is
within T. Whatever prices p_v the groups have (of any sign), and m_k >= 0 the memory of a kind,

    Σ_v p_v <= Σ_k n_k·(P_k + m_k)
    P_k = max { Σ_{v in S} (p_v - m_k·size_kv/C_k) : load_k(S) <= T }

so prices whose sum is more refute T. The best prices are the duals of packing all groups with as
few rounds of all slots as possible, θ: a linear program over sets, which `fullest` prices out.
θ > 1 refutes T. This sees what sums of work do not: that 25 equal layers need five in one of six
slots, and that the middle of a chain pays two crossings where its ends pay one.

Sources: P. Gilmore, R. Gomory, Operations Research 9, 1961 (columns for packing); A. Farley,
Operations Research 38, 1990 (the bound by scaled prices); R. Marsten et al., The boxstep method,
Operations Research 23, 1975 (prices stay near those that have said most).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np

from planner.solve.assign.completions import Slot
from planner.solve.assign.frontier import Layer, layers
from planner.solve.assign.fullest import fullest
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups
from planner.solve.assign.master import Master, Priced, Prices, first_prices

NAME = "packing of slots"
WIDTH, MOST_WIDTH = 0.3, 100.0
"""Half the box around the best prices, relative to them: at first, and no wider than this."""
NULL_ROUNDS, SERIOUS = 8, 0.1
"""Rounds without a gain after which it is halved; what part of the promised gain counts as one."""
TOLERANCE, LEAST_TOLERANCE = 2e-3, 1e-5
"""Of an even share of all prices, for what a slot holds at most; a quarter of it whenever no set
is new."""
SHARE = 0.5
"""Of the time that is left, for each target."""
NEAR, CLOSE = 1e-3, 1e-4
"""Relative: targets as near to the cutoff as this are the cutoff itself; and targets nearer to each
other than this are not told apart."""
MARGIN = 1e-7
"""Relative: by how much prices must refute a target, for sums of floats."""


@dataclass(slots=True)
class _Box:
    """How far prices may be from those that have said most."""

    width: float = WIDTH
    said: float = 0.0
    """By the best prices: rounds of all slots that they sum up to."""
    promised: float = math.inf
    """What no prices in the box exceed."""
    nulls: int = 0

    def gains(self, ratio: float) -> bool:
        """Whether prices say more than any before."""
        is_serious = not self.said or ratio > self.said + SERIOUS * (self.promised - self.said)
        self.nulls = 0 if is_serious else self.nulls + 1
        if ratio <= self.said:
            return False
        self.said = ratio
        return True

    def is_halved(self) -> bool:
        """Halves it after many rounds without a gain."""
        if self.nulls < NULL_ROUNDS:
            return False
        self.width, self.nulls = self.width / 2, 0
        return True


class Packing:
    """Prices that refute cutoffs; sets and prices of one are used for the next."""

    def __init__(self, groups: Groups, walks: Sequence[Sequence[Layer]]) -> None:
        """From work as the first prices."""
        self.groups = groups
        self.slots = [
            Slot(walk, time, math.inf) for walk, time in zip(walks, groups.time_us, strict=True)
        ]
        self.master = Master(groups)
        self.centre = first_prices(groups)
        self._tolerance = TOLERANCE

    def raise_bound(self, best: Incumbent, cutoff_us: float, until: float) -> None:
        """Raises the bound by halves up to a cutoff, as far as the time suffices."""
        if not np.isfinite(self.centre.groups).all():  # what must share a slot runs nowhere
            best.raise_bound(cutoff_us, NAME)
            return
        high, is_tried = cutoff_us, False
        while not best.is_proved:
            if high - best.bound_us <= CLOSE * high and (is_tried or high < cutoff_us):
                return
            now = monotonic()
            if now >= until:
                best.is_clocked = True
                return
            target, stop = (best.bound_us + high) / 2, now + SHARE * (until - now)
            if not is_tried and target > cutoff_us * (1 - NEAR):
                target, is_tried = cutoff_us, True
            if self.refutes(target, stop):
                best.raise_bound(target, NAME)
                continue
            best.is_clocked |= monotonic() > stop
            high = target
            best.raise_bound(self.refuted_us(best.bound_us, target, until), NAME)

    def refutes(self, cutoff_us: float, until: float) -> bool:
        """Whether prices are found in time that no plan with loads within a cutoff can pay."""
        box, prices = _Box(), self.centre
        self._tolerance = TOLERANCE
        while monotonic() < until:
            ratio, scaled, is_new = self._price(prices, cutoff_us, until)
            if box.gains(ratio):
                self.centre = scaled
            if ratio > 1 + MARGIN:
                return True
            if not is_new and self._tolerance <= LEAST_TOLERANCE:
                return False
            self._tolerance *= 1.0 if is_new else 0.25
            if box.is_halved() and self._is_packed(cutoff_us, until):
                return False
            priced = self._solve(cutoff_us, box, until)
            if priced is None or (priced.rounds <= 1 and not priced.is_boxed):
                return False
            prices, box.promised = priced.prices, priced.rounds
        return False

    def refuted_us(self, low_us: float, high_us: float, until: float) -> float:
        """The highest cutoff found that the best prices refute, from one that is refuted up."""
        while high_us - low_us > CLOSE * high_us and monotonic() < until:
            middle = (low_us + high_us) / 2
            ratio, _, _ = self._price(self.centre, middle, until)
            if ratio > 1 + MARGIN:
                low_us = middle
            else:
                high_us = middle
        return low_us

    def _solve(self, cutoff_us: float, box: _Box, until: float) -> Priced | None:
        """The next prices; the box is doubled until some in it may say more than the best so far,
        within the tolerance."""
        while True:
            limit_s = until - monotonic()
            priced = self.master.solve(cutoff_us, self.centre, box.width, limit_s)
            if priced is None or not priced.is_boxed or box.width > MOST_WIDTH:
                return priced
            if priced.rounds > box.said * (1 + 2 * self._tolerance):
                return priced
            box.width *= 2

    def _is_packed(self, cutoff_us: float, until: float) -> bool:
        """Whether the sets known make up one round of the slots, so that nothing can be refuted."""
        priced = self.master.solve(cutoff_us, self.centre, math.inf, until - monotonic())
        return priced is not None and priced.rounds <= 1

    def _price(self, prices: Prices, cutoff_us: float, until: float) -> tuple[float, Prices, bool]:
        """(what prices sum up to in rounds of all slots, prices per round, whether sets are new)"""
        rounds, is_new = 0.0, False
        total = float(prices.groups.sum())
        margin = self._tolerance * max(total, 0.0) / self.groups.slot_count
        for k, slot in enumerate(self.slots):
            slot.cutoff_us = cutoff_us
            worth = prices.at(self.groups, k)
            found = fullest(slot, worth, margin, lambda: monotonic() > until)
            rounds += len(self.groups.kinds[k].slots) * (found.bound + float(prices.memory[k]))
            for chosen in found.sets:
                is_new |= self.master.add(k, chosen)
        if rounds <= 0:
            return 0.0, prices, is_new
        return total / rounds, prices.scaled(1 / rounds), is_new


def packing_of(groups: Groups, until: float = math.inf) -> Packing | None:
    """Of groups whose graph is narrow enough for it; None else, and where the time is over."""
    kinds = range(len(groups.kinds))
    walks = [layers(groups, kind, lambda: monotonic() > until) for kind in kinds]
    narrow = [walk for walk in walks if walk is not None]
    if not groups.count or len(narrow) < len(walks):
        return None
    return Packing(groups, narrow)
