"""A lower bound on the largest load of a chain: its boundaries cut something, wherever they are.

Let slots 1..P be of kinds k_1..k_P in order, s_p the speed of k_p (`windows`), r_p = s_p where the
slot pays for crossings and 0 where it does not, I_p the ideal done after slot p, W all work. Slot p
does at most s_p·T - r_p·(cost of the nets it cuts) of it if its load is below T, so

    W - T·Σ_{q>p} s_q <= work(I_p) <= T·Σ_{q<=p} s_q                        for every boundary p
    W + Σ_n c_n·Σ{r_p : slot p holds some of net n, not all} <= T·Σ_p s_p

The first says that some groups lie before boundary p in every such plan and some behind it; what is
left between them is little where graphs are deep. A net whose first slot is i and whose last is j
is cut by the boundaries i..j-1 and pays r_i + r_j at least. This is charged at a few boundaries:
f_np at boundary p, Σ_{p=i}^{j-1} f_np <= r_i + r_j for all i < j that the first line leaves. So

    T·Σ_p s_p >= W + Σ_p min { Σ_n f_np·c_n·[I cuts n] : I an ideal, boundary p may be there }

P - 1 minimum cuts (`closure`), for every order of the kinds. What a cutoff T refutes is a bound,
and what it does not refute bounds plans below T all the same; lower ones leave less between groups.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from planner.solve.assign.closure import Between, Nets, cheapest, nets_of
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups
from planner.solve.assign.windows import SLACK, speed, work_before
from planner.solve.data import BoolArray, FloatArray

MOST_ORDERS = 64
"""Orders of kinds up to which all are looked at."""
CLOSE = 1e-4
"""Relative distance of cutoffs at which an order of kinds is done."""
ROUNDS = 12
"""Cutoffs of one order of kinds."""


def sequences(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All orders of kinds, each so many times."""
    if not any(counts):
        yield ()
        return
    for kind, count in enumerate(counts):
        if count:
            left = [n - (k == kind) for k, n in enumerate(counts)]
            for rest in sequences(left):
                yield kind, *rest


def are_few(counts: Sequence[int]) -> bool:
    """Whether there are at most `MOST_ORDERS` of them."""
    orders, total = 1, 0
    for count in counts:
        for n in range(1, count + 1):
            total += 1
            orders = orders * total // n
    return orders <= MOST_ORDERS


@dataclass(slots=True)
class Crossings:
    """What is the same for all cutoffs."""

    groups: Groups
    nets: Nets = field(init=False)
    work: FloatArray = field(init=False)
    before_us: FloatArray = field(init=False)
    """Work of each group with all that precede it;"""
    behind_us: FloatArray = field(init=False)
    """with all that follow it."""
    _cost: FloatArray = field(init=False)
    _speed: list[float] = field(init=False)
    _known: dict[tuple[float, float, bytes], tuple[float, BoolArray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups = self.groups
        self.nets = nets_of(groups)
        self.work = groups.time_us.min(axis=0)
        self.before_us = np.array(work_before(groups, groups.order))
        self.behind_us = np.array(work_before(groups, [(b, a) for a, b in groups.order]))
        self._cost = np.array([net.cost_us for net in groups.nets])
        self._speed = [speed(groups, kind) for kind in range(len(groups.kinds))]

    def least_us(self, kinds: Sequence[int], cutoff_us: float) -> tuple[float, list[BoolArray]]:
        """What plans below a cutoff cost at least whose slots have these kinds in order, and the
        cheapest boundaries; infinite where there are no such plans."""
        speeds = np.array([self._speed[k] for k in kinds])
        total, offered = float(self.work.sum()), float(speeds.sum())
        paid = np.where([self.groups.kinds[k].pays for k in kinds], speeds, 0.0)
        room = SLACK * total
        highs = cutoff_us * np.cumsum(speeds)[:-1] + room
        lows = total - (cutoff_us * offered - highs) - 2 * room
        inside = [total - self.behind_us < low - room for low in lows]
        outside = [self.before_us > high + room for high in highs]
        if any((a & b).any() for a, b in zip(inside, outside, strict=True)):
            return np.inf, []
        charges = self._charges(inside, outside, paid)
        spent, ideals = 0.0, []
        for p, charge in enumerate(charges):
            asked = Between(inside[p], outside[p], charge, float(lows[p]), float(highs[p]))
            cost, ideal = self._cheapest(asked)
            spent += max(cost, 0.0)
            ideals.append(ideal)
        return (total + spent * (1 - SLACK)) / offered * (1 - SLACK), ideals

    def _cheapest(self, asked: Between) -> tuple[float, BoolArray]:
        name = (asked.low, asked.high, asked.charge.tobytes())
        if name not in self._known:
            self._known[name] = cheapest(self.nets, self.work, asked)
        return self._known[name]

    def _charges(
        self, inside: Sequence[BoolArray], outside: Sequence[BoolArray], paid: FloatArray
    ) -> list[FloatArray]:
        """f_np·c_n: all of it at the boundaries that the net's source may lie on either side of."""
        count, boundaries = len(self._cost), range(len(inside))
        may, core = [], []
        for a, b in zip(inside, outside, strict=True):
            held = self.nets.members @ a.astype(np.int64)
            left = self.nets.members @ b.astype(np.int64)
            may.append((held < self.nets.size) & (left < self.nets.size))
            core.append(may[-1] & ~(a | b)[self.nets.source])
        is_free = np.any(core, axis=0) if core else np.zeros(count, dtype=np.bool_)
        core = [np.where(is_free, here, there) for here, there in zip(core, may, strict=True)]
        share = 1.0 / np.maximum(np.sum(core, axis=0), 1)
        first, last = np.full((2, len(inside) + 1, count), np.inf)
        for p in boundaries:
            first[p] = np.where(may[p], np.minimum(first[p - 1] if p else np.inf, paid[p]), np.inf)
        for p in reversed(boundaries):
            last[p] = np.where(may[p], np.minimum(last[p + 1], paid[p + 1]), np.inf)
        return [
            np.where(core[p], share * (first[p] + last[p]), 0.0) * self._cost for p in boundaries
        ]


def raise_by_crossings(best: Incumbent, groups: Groups, until: float) -> None:
    """Raises the bound by the boundaries of every order of the kinds, the one that bounds least
    first, as far as the time suffices."""
    counts = [len(kind.slots) for kind in groups.kinds]
    if groups.count < 2 or sum(counts) < 2 or not are_few(counts):
        return
    known, top = Crossings(groups), best.cutoff_us
    if not np.isfinite(top):
        return
    # (bound, order of kinds, cutoff that is not refuted, cutoffs tried)
    queue = [(best.bound_us, kinds, np.inf, 0) for kinds in sequences(counts)]
    while monotonic() < until and not best.is_proved:
        bound, kinds, open_us, tried = queue[0]
        if tried and (tried >= ROUNDS or open_us - bound <= CLOSE * open_us):
            return
        cutoff = top if tried == 0 else (bound + open_us) / 2
        least, _ = known.least_us(kinds, cutoff)
        is_refuted = least >= cutoff
        open_us = open_us if is_refuted and tried else min(open_us, cutoff)
        raised = cutoff if is_refuted else max(bound, least)
        heapq.heapreplace(queue, (raised, kinds, open_us, tried + 1))
        best.raise_bound(queue[0][0], "boundaries")
