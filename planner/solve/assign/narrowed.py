"""Where the boundaries of one order of kinds may lie if every load is to stay below a cutoff.

First by work alone (`crossings`). Then, with I_p the ideal of boundary p and w the work of
groups (`windows`), by all that loads cost: for any prices λ >= 0 plans below T have

    w(I_p) >= min over chains of (w(I_p) + Σ_q λ_q·load_q) - T·Σ_q λ_q

and likewise for -w; the prices that say most are found as in `priced`. A group that has too much
work before it lies behind the boundary, one that has too much behind it before it. The chains that
are left say more again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np

from planner.solve.assign.known import Known, closed, held, pools
from planner.solve.assign.priced import Priced, Slots, Tilt
from planner.solve.assign.windows import SLACK, offered
from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.pace import never

EVALUATIONS, OF_WORK = 12, 4
"""Prices that are tried for a bound on loads, and for one on work."""
LEAST_PRICE, AWAY = 1e-3, 1e-4
"""Prices at the start, relative to the fastest slot's: of one that does nothing fast, and of those
that are on the other side of a boundary."""
GAIN = 0.2
"""Part of the room of work that must be gained for another turn."""


@dataclass(slots=True)
class Narrowed:
    """The boundaries of one order of kinds, below one cutoff."""

    known: Known
    kinds: Sequence[int]
    cutoff_us: float
    is_pooled: bool = False
    """Every second place, the first and the last too, is taken by any slots of one kind: all orders
    of two kinds at once."""
    bound_us: float = 0.0
    """What plans below the cutoff cost at least; infinite where there are none."""
    chain: Sequence[BoolArray] = ()
    """The boundaries that cost least at the last prices, where these say most,"""
    load_us: float = np.inf
    """and the largest load between them, as far as it is charged."""
    slots: Slots = field(init=False)
    lows: FloatArray = field(init=False)
    """Of each boundary: work that it holds at least,"""
    highs: FloatArray = field(init=False)
    """and at most."""
    _first: IntArray = field(init=False)
    """Of each pool: its first place,"""
    _speeds: FloatArray = field(init=False)
    """the speed of its slots,"""
    _each: FloatArray = field(init=False)
    """and the work that one of them holds at most."""
    _most: FloatArray = field(init=False)
    """Work that each place holds at most."""
    _priced: Priced | None = None

    def __post_init__(self) -> None:
        known = self.known
        pool, count = pools(known.groups, self.kinds, is_pooled=self.is_pooled)
        _, self._first = np.unique(pool, return_index=True)
        last = len(pool) - 1 - np.unique(pool[::-1], return_index=True)[1]
        kinds = [self.kinds[p] for p in self._first.tolist()]
        self._speeds = np.array([known.speeds[k] for k in kinds])
        if not self._speeds.any():  # no work at all: loads are crossings, each as dear
            self._speeds = np.ones(len(kinds))
        self._each = np.array([offered(known.groups, k, self.cutoff_us) for k in kinds])
        most, ends = count * self._each, np.arange(len(pool) - 1)
        self._most = most[pool]
        self.highs = (ends[:, None] >= self._first) @ most
        self.lows = float(known.work.sum()) - (ends[:, None] < last) @ most
        nothing = np.zeros(known.groups.count, dtype=np.bool_)
        none = [nothing for _ in self.kinds[1:]]
        self.slots = Slots(known.groups, known.nets, self.kinds, none, none, pool, count)
        self._enclose()

    @property
    def is_refuted(self) -> bool:
        """Whether no plan below the cutoff has these kinds in order."""
        return self.bound_us >= self.cutoff_us

    @property
    def free(self) -> int:
        """Groups that may lie on either side of a boundary, all boundaries together."""
        pairs = zip(self.slots.inside, self.slots.outside, strict=True)
        return sum(int((~(a | b)).sum()) for a, b in pairs)

    def priced(self) -> Priced:
        """The loads at prices, for the boundaries as they are now."""
        if self._priced is None:
            self._priced = Priced(self.slots, self.cutoff_us)
        return self._priced

    def bound(self, is_over: Callable[[], bool] = never, evaluations: int = EVALUATIONS) -> None:
        """Raises the bound on loads; one evaluation at least."""
        if self.is_refuted:
            return
        name = tuple(self.kinds), 0
        least = LEAST_PRICE * self._speeds.max()
        speeds = np.maximum(self._speeds, least)
        if self.is_pooled and self.known.barred[self.kinds[0]].any():
            speeds[0] = least  # what it cannot run limits such a kind, not its time
        start = self.known.prices.get(name, self._prices(speeds))
        found = self.priced().best(start, evaluations, is_over)
        self.known.prices[name] = found.prices
        self.bound_us, self.chain = max(self.bound_us, found.value), found.chain
        self.load_us = np.inf if self.is_pooled else float(found.slope[: len(self.kinds)].max())

    def forget(self) -> None:
        """Frees the network; it is built again when it is asked for."""
        self._priced = None

    def _prices(self, of_loads: FloatArray) -> FloatArray:
        """Prices to start with: memory is worth little, or what `rates` say."""
        held = self.priced().held
        of_memory = self._each[held] / self.cutoff_us - self._speeds[held]
        return np.append(of_loads, np.maximum(of_memory, AWAY * self._speeds.max()))

    def narrow(self, is_over: Callable[[], bool], evaluations: int = OF_WORK) -> bool:
        """Bounds on the work of every boundary, from both sides: whether they gain something."""
        width = float((self.highs - self.lows).sum())
        for p in range(len(self.lows)):
            if self.is_refuted or is_over():
                return False
            self.lows[p] = max(self.lows[p], self._work(p, 1, evaluations, is_over))
            if not is_over():
                self.highs[p] = min(self.highs[p], -self._work(p, -1, evaluations, is_over))
        self._enclose()
        return float((self.highs - self.lows).sum()) < (1 - GAIN) * width

    def _work(
        self, boundary: int, sign: int, evaluations: int, is_over: Callable[[], bool]
    ) -> float:
        """The least work that a boundary holds, or the least that it holds not, less all."""
        name = tuple(self.kinds), sign * (boundary + 1)
        here = self._first <= boundary
        far = here if sign > 0 else ~here
        start = np.where(far, AWAY * self._speeds.max(), self._speeds)
        start = self._prices(np.maximum(start, AWAY * self._speeds.max()))
        tilt = Tilt(boundary, sign * self.known.work)
        start = self.known.prices.get(name, start)
        found = self.priced().least(tilt, start, evaluations, is_over)
        self.known.prices[name] = found.prices
        return found.value

    def split(self, boundary: int, group: int) -> tuple[Narrowed, Narrowed]:
        """The chains that have a group before a boundary, and those that have it behind."""
        one = np.zeros(self.known.groups.count, dtype=np.bool_)
        one[group] = True
        halves = copy(self), copy(self)
        for half in halves:
            half.lows, half.highs = self.lows.copy(), self.highs.copy()
            half.chain, half.load_us = (), np.inf
        inside, outside = list(self.slots.inside), list(self.slots.outside)
        inside[boundary] = inside[boundary] | closed(one, self.known.before)
        outside[boundary] = outside[boundary] | closed(one, self.known.behind)
        halves[0].slots = replace(self.slots, inside=inside)
        halves[1].slots = replace(self.slots, outside=outside)
        for half in halves:
            half._enclose()
        return halves

    def _enclose(self) -> None:
        """Groups that lie before or behind each boundary by the work around them, and the work of
        each boundary by the groups and by what the slots beside it hold."""
        known = self.known
        total = float(known.work.sum())
        room = 3 * SLACK * total
        for p, mask in enumerate(self.slots.inside):
            self.lows[p] = max(self.lows[p], float(known.work[mask].sum()))
        for p, mask in enumerate(self.slots.outside):
            self.highs[p] = min(self.highs[p], total - float(known.work[mask].sum()))
        for p in range(1, len(self.highs)):
            self.highs[p] = min(self.highs[p], self.highs[p - 1] + self._most[p])
        for p in reversed(range(len(self.lows) - 1)):
            self.lows[p] = max(self.lows[p], self.lows[p + 1] - self._most[p + 1])
        parts = zip(self.slots.inside, self.lows, strict=True)
        inside = [old | (total - known.behind_us < low - room) for old, low in parts]
        parts = zip(self.slots.outside, self.highs, strict=True)
        outside = [old | (known.before_us > high + room) for old, high in parts]
        barred = [known.barred[k] for k in self.kinds]
        inside = held(inside, barred, known.before)
        outside = held(outside[::-1], barred[::-1], known.behind)[::-1]
        is_empty = any((a & b).any() for a, b in zip(inside, outside, strict=True))
        if is_empty or bool((self.lows > self.highs + room).any()):
            self.bound_us = np.inf
        self.slots = replace(self.slots, inside=inside, outside=outside)
        self._priced = None
