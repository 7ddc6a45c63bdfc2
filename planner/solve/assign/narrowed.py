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
from dataclasses import dataclass, field, replace

import numpy as np

from planner.solve.assign.closure import Nets
from planner.solve.assign.instance import Groups
from planner.solve.assign.priced import Priced, Slots, Tilt
from planner.solve.assign.windows import SLACK, offered, speed, work, work_before
from planner.solve.data import BoolArray, FloatArray
from planner.solve.pace import never

EVALUATIONS, OF_WORK = 12, 4
"""Prices that are tried for a bound on loads, and for one on work."""
LEAST_PRICE, AWAY = 1e-3, 1e-4
"""Prices at the start, relative to the fastest slot's: of one that does nothing fast, and of those
that are on the other side of a boundary."""
GAIN = 0.2
"""Part of the room of work that must be gained for another turn."""


@dataclass(slots=True)
class Known:
    """What is the same for all orders of kinds and all cutoffs."""

    groups: Groups
    nets: Nets
    work: FloatArray = field(init=False)
    before_us: FloatArray = field(init=False)
    """Work of each group with all that precede it;"""
    behind_us: FloatArray = field(init=False)
    """with all that follow it."""
    speeds: list[float] = field(init=False)
    """Of each kind."""
    prices: dict[tuple[tuple[int, ...], int], FloatArray] = field(default_factory=dict)
    """The best ones so far, by order of kinds and use."""

    def __post_init__(self) -> None:
        groups = self.groups
        self.work = work(groups)
        self.before_us = np.array(work_before(groups, groups.order))
        self.behind_us = np.array(work_before(groups, [(b, a) for a, b in groups.order]))
        self.speeds = [speed(groups, kind) for kind in range(len(groups.kinds))]


@dataclass(slots=True)
class Narrowed:
    """The boundaries of one order of kinds, below one cutoff."""

    known: Known
    kinds: Sequence[int]
    cutoff_us: float
    bound_us: float = 0.0
    """What plans below the cutoff cost at least; infinite where there are none."""
    chain: Sequence[BoolArray] = ()
    """The boundaries that cost least, so far as was seen."""
    slots: Slots = field(init=False)
    lows: FloatArray = field(init=False)
    """Of each boundary: work that it holds at least,"""
    highs: FloatArray = field(init=False)
    """and at most."""
    _speeds: FloatArray = field(init=False)
    _priced: Priced | None = None

    def __post_init__(self) -> None:
        known, cutoff = self.known, self.cutoff_us
        self._speeds = np.array([known.speeds[k] for k in self.kinds])
        most = np.array([offered(known.groups, k, cutoff) for k in self.kinds])
        self.highs = np.cumsum(most)[:-1]
        self.lows = float(known.work.sum()) - (float(most.sum()) - self.highs)
        nothing = np.zeros(known.groups.count, dtype=np.bool_)
        none = [nothing for _ in self.kinds[1:]]
        self.slots = Slots(known.groups, known.nets, self.kinds, none, none)
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
            time = self.known.groups.time_us[list(self.kinds)]
            self._priced = Priced(self.slots, np.where(np.isfinite(time), time, self.cutoff_us))
        return self._priced

    def bound(self, is_over: Callable[[], bool] = never, evaluations: int = EVALUATIONS) -> None:
        """Raises the bound on loads; one evaluation at least."""
        if self.is_refuted:
            return
        name = tuple(self.kinds), 0
        least = LEAST_PRICE * self._speeds.max()
        start = self.known.prices.get(name, np.maximum(self._speeds, least))
        found = self.priced().best(start, self.cutoff_us, evaluations, is_over)
        self.known.prices[name] = found.prices
        self.bound_us, self.chain = max(self.bound_us, found.bound_us), found.chain

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
        here = np.arange(len(self.kinds)) <= boundary
        far = here if sign > 0 else ~here
        start = np.where(far, AWAY * self._speeds.max(), self._speeds)
        start = self.known.prices.get(name, np.maximum(start, AWAY * self._speeds.max()))
        tilt = Tilt(boundary, sign * self.known.work)
        found, prices = self.priced().least(tilt, start, self.cutoff_us, evaluations, is_over)
        self.known.prices[name] = prices
        return found

    def _enclose(self) -> None:
        """Groups that lie before or behind each boundary by the work around them."""
        known = self.known
        total = float(known.work.sum())
        room = 3 * SLACK * total
        parts = zip(self.slots.inside, self.lows, strict=True)
        inside = [old | (total - known.behind_us < low - room) for old, low in parts]
        parts = zip(self.slots.outside, self.highs, strict=True)
        outside = [old | (known.before_us > high + room) for old, high in parts]
        for p in range(1, len(inside)):
            inside[p] = inside[p] | inside[p - 1]
        for p in reversed(range(len(outside) - 1)):
            outside[p] = outside[p] | outside[p + 1]
        is_empty = any((a & b).any() for a, b in zip(inside, outside, strict=True))
        if is_empty or bool((self.lows > self.highs + room).any()):
            self.bound_us = np.inf
        self.slots = replace(self.slots, inside=inside, outside=outside)
        self._priced = None
