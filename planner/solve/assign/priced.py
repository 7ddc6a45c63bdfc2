"""A lower bound on the largest load of a chain: its loads, each at a price.

Let slots 1..P be of kinds k_1..k_P in order, I_p the ideal done after slot p, t_pv the time of
group v at slot p, r_p = 1 where the slot pays for crossings and 0 where it does not. For any prices
λ >= 0 with Σ_p λ_p = 1 the largest load is at least Σ_p λ_p·load_p, where

    load_p = Σ_{v in I_p - I_{p-1}} t_pv + r_p·Σ_n c_n·[slot p holds some of net n, not all]

A net whose first slot is i and whose last is j is cut by the boundaries i..j-1 and pays λ_i·r_i +
λ_j·r_j at least. This is charged at a few boundaries: f_np at boundary p, with Σ_{p=i}^{j-1} f_np
<= λ_i·r_i + λ_j·r_j for all i < j that are possible. With a_pv = λ_p·t_pv - λ_{p+1}·t_{p+1,v} the
largest load is at least

    L(λ) = Σ_v λ_P·t_Pv + min Σ_p ( Σ_{v in I_p} a_pv + Σ_n f_np·c_n·[I_p cuts n] )

over all chains I_1 ⊆ I_2 ⊆ ... that are possible: one minimum cut (`closure`). L is concave, and a
chain's loads are a plane above it: the prices that say most are found by cutting planes in a box
(boxstep; Marsten, Hogan and Blankenship, Operations Research 23, 1975). Without bounds on what
chains are possible L(λ) is no more than all work on one slot; those bounds are `narrowed`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.solve.assign.closure import Between, Chains, Nets
from planner.solve.assign.instance import Groups
from planner.solve.assign.windows import SLACK
from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.lp import LinearProgram, NoVertex, minimise
from planner.solve.pace import never

WIDE, NARROW = 3.0, 1.0005
"""Factors by which prices may differ from the best ones: at first, and at last."""
LEAST = 1e-9
"""Of a price."""
ENOUGH = 2e-6
"""Relative distance of the planes to the best bound at which prices count as settled."""


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of a chain in order, and between which ideals each of them may lie."""

    groups: Groups
    nets: Nets
    kinds: Sequence[int]
    inside: Sequence[BoolArray]
    """Of each boundary: groups that lie before it in every chain of interest,"""
    outside: Sequence[BoolArray]
    """and behind it."""


@dataclass(frozen=True, slots=True)
class Tilt:
    """Something that groups weigh if a boundary holds them."""

    boundary: int
    weight: FloatArray


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation."""

    prices: FloatArray
    bound_us: float
    loads: FloatArray
    """Of the cheapest chain, as far as it is charged."""
    chain: Sequence[BoolArray]


@dataclass(slots=True)
class Priced:
    """L for one order of kinds."""

    slots: Slots
    time_us: FloatArray
    """[slot, group]; what a slot does not support costs any finite time, which is too little."""
    _pays: FloatArray = field(init=False)
    may: list[BoolArray] = field(init=False)
    """Of each boundary: nets that it may cut,"""
    _core: list[BoolArray] = field(init=False)
    """and those that are charged there."""
    _share: FloatArray = field(init=False)
    _chains: Chains = field(init=False)

    def __post_init__(self) -> None:
        slots, nets = self.slots, self.slots.nets
        self._pays = np.array([float(slots.groups.kinds[k].pays) for k in slots.kinds])
        bounds = list(zip(slots.inside, slots.outside, strict=True))
        self.may, sources = [], []
        for inside, outside in bounds:
            held = nets.members @ inside.astype(np.int64)
            left = nets.members @ outside.astype(np.int64)
            self.may.append((held < nets.size) & (left < nets.size))
            sources.append(self.may[-1] & ~(inside | outside)[nets.source])
        # charged where the source may lie on either side; else wherever the net may be cut
        has_source = np.any(sources, axis=0)
        self._core = [np.where(has_source, a, b) for a, b in zip(sources, self.may, strict=True)]
        self._share = 1.0 / np.maximum(np.sum(self._core, axis=0), 1)
        asked = [Between(*bound, core) for bound, core in zip(bounds, self._core, strict=True)]
        self._chains = Chains(nets, asked)

    def at(self, prices: FloatArray, tilt: Tilt | None = None) -> Point:
        """L at prices, with more to pay for what one boundary holds."""
        time, nets, ends = self.time_us, self.slots.nets, range(len(self._core))
        first, last, charges, weights = self._terms(prices)
        if tilt is not None:
            weights[tilt.boundary] = weights[tilt.boundary] + tilt.weight
        value, chain = self._chains.cheapest(weights, charges)
        loads = np.zeros(len(prices))
        loads[-1] = time[-1].sum()
        bound = float(prices[-1] * loads[-1]) + value
        for p in ends:
            member = chain[p]
            spent = self._share * self.slots.nets.cost_us * (nets.cut_by(member) & self._core[p])
            loads[p] += time[p][member].sum()
            loads[p + 1] -= time[p + 1][member].sum()
            for at in (first[p], last[p]):
                loads += np.bincount(at, spent, len(prices)) * self._pays
        rounded = SLACK * (abs(bound) + float(prices @ time.sum(axis=1)))
        return Point(prices, bound - rounded, loads, chain)

    def rest(self, prices: FloatArray, boundary: int) -> tuple[FloatArray, FloatArray, float]:
        """What an ideal at one boundary costs at prices, by group and by net, and what all else
        costs at least, whatever the ideal."""
        _, _, charges, weights = self._terms(prices)
        mine = weights[boundary], charges[boundary]
        weights[boundary] = np.zeros_like(mine[0])
        charges[boundary] = np.zeros_like(mine[1])
        value, _ = self._chains.cheapest(weights, charges)
        alone = float(prices[-1] * self.time_us[-1].sum())
        rounded = SLACK * (abs(alone + value) + float(prices @ self.time_us.sum(axis=1)))
        return *mine, alone + value - rounded

    def _terms(
        self, prices: FloatArray
    ) -> tuple[list[IntArray], list[IntArray], list[FloatArray], list[FloatArray]]:
        """First and last slots that pay least, what nets cost, what groups cost, by boundary."""
        time, ends = self.time_us, range(len(self._core))
        first, last = self._least(prices)
        paid, cost = prices * self._pays, self._share * self.slots.nets.cost_us
        charges = [
            np.where(self._core[p], cost * (paid[first[p]] + paid[last[p]]), 0) for p in ends
        ]
        weights = [prices[p] * time[p] - prices[p + 1] * time[p + 1] for p in ends]
        return first, last, charges, weights

    def _least(self, prices: FloatArray) -> tuple[list[IntArray], list[IntArray]]:
        """Of each boundary and net: the possible first slot that pays least, and the last one."""
        paid = prices * self._pays
        first: list[IntArray] = []
        last: list[IntArray] = []
        here = np.zeros(len(self.slots.nets.cost_us), dtype=np.int64)
        was = np.zeros(len(self.slots.nets.cost_us), dtype=np.bool_)
        for p, may in enumerate(self.may):
            here = np.where(was & (paid[here] < paid[p]), here, p)
            was = may
            first.append(here)
        was = np.zeros(len(self.slots.nets.cost_us), dtype=np.bool_)
        for p in reversed(range(len(self.may))):
            here = np.where(was & (paid[here] < paid[p + 1]), here, p + 1)
            was = self.may[p]
            last.append(here)
        return first, last[::-1]

    def best(
        self,
        prices: FloatArray,
        enough_us: float,
        rounds: int,
        is_over: Callable[[], bool] = never,
    ) -> Point:
        """The best of some evaluations that begin with given prices; stops at a bound that is
        enough. Prices sum to one."""

        def ask(prices: FloatArray) -> _Plane:
            point = self.at(prices / prices.sum())
            return _Plane(point, point.bound_us, point.loads, 0.0)

        return _ascend(ask, prices / prices.sum(), enough_us, rounds, is_over, total=1.0).point

    def least(
        self,
        tilt: Tilt,
        prices: FloatArray,
        cutoff_us: float,
        rounds: int,
        is_over: Callable[[], bool] = never,
    ) -> tuple[float, FloatArray]:
        """What the groups that a boundary holds weigh at least in plans below a cutoff, and the
        prices that say so: min (weight + Σ λ·load) - cutoff·Σ λ for any λ >= 0."""

        def ask(prices: FloatArray) -> _Plane:
            point = self.at(prices, tilt)
            held = float(tilt.weight[point.chain[tilt.boundary]].sum())
            bound = point.bound_us - cutoff_us * float(prices.sum())
            return _Plane(point, bound, point.loads - cutoff_us, held)

        found = _ascend(ask, prices, np.inf, rounds, is_over)
        return found.value, found.point.prices


@dataclass(frozen=True, slots=True)
class _Plane:
    """An evaluation, its value, and the plane above all values: slope·λ + offset."""

    point: Point
    value: float
    slope: FloatArray
    offset: float


def _ascend(
    ask: Callable[[FloatArray], _Plane],
    start: FloatArray,
    enough: float,
    rounds: int,
    is_over: Callable[[], bool],
    total: float | None = None,
) -> _Plane:
    found = ask(start)
    planes, width = [found], WIDE
    for _ in range(rounds):
        if found.value >= enough or width < NARROW or is_over():
            break
        proposed, hoped = _proposal(planes, found.point.prices, width, total)
        if hoped - found.value <= ENOUGH * (abs(found.value) + abs(hoped)):
            break
        planes.append(ask(proposed))
        if planes[-1].value > found.value:
            found = planes[-1]
        else:
            width = width**0.5
    return found


def _proposal(
    planes: Sequence[_Plane], center: FloatArray, width: float, total: float | None
) -> tuple[FloatArray, float]:
    """The prices within a factor of the best ones that all planes promise most for, and what."""
    slopes = -np.array([plane.slope for plane in planes])
    rows = np.column_stack((slopes, np.ones(len(planes))))
    rhs = np.array([plane.offset for plane in planes])
    if total is not None:
        rows = np.vstack((rows, np.append(np.ones(len(center)), 0.0)))
        rhs = np.append(rhs, total)
    vertex = minimise(
        LinearProgram(
            costs=np.append(np.zeros(len(center)), -1.0),
            matrix=rows,
            rhs=rhs,
            lower=np.append(center / width, -np.inf),
            upper=np.append(center * width, np.inf),
            is_equality=np.arange(len(rhs)) >= len(planes),
        )
    )
    if isinstance(vertex, NoVertex):
        return center, -np.inf
    return np.maximum(vertex.values[:-1], LEAST), float(vertex.values[-1])
