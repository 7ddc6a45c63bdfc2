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
chain's loads are a plane above it, from which the prices that say most are found (`ascent`).
Without bounds on what chains are possible L(λ) is no more than all work on one slot; those bounds
are `narrowed`'s.

Memory has prices too, where a slot has not room for all. Counted as m_pv = T·size_pv / capacity_p,
what a slot holds is at most T, as loads of plans below a cutoff T are. With prices μ_p >= 0 on top,
a_pv = λ_p·t_pv + μ_p·m_pv - λ_{p+1}·t_{p+1,v} - μ_{p+1}·m_{p+1,v}, such a plan's largest load is at
least L(λ, μ) - T·Σ_p μ_p.

Places of one chain may share a price: slots of one kind that lie anywhere between those of another
(`Slots.pool`). Then Σ_r n_r·λ_r = 1 over the pools r of n_r slots each, and all orders of the two
kinds are bounded at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.solve.assign.ascent import Plane, ascend
from planner.solve.assign.closure import Between, Chains, Nets
from planner.solve.assign.glue import is_memory_slack
from planner.solve.assign.instance import Groups
from planner.solve.assign.windows import SLACK
from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.pace import never


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of a chain in order, and between which ideals each of them may lie."""

    groups: Groups
    nets: Nets
    kinds: Sequence[int]
    inside: Sequence[BoolArray]
    """Of each boundary: groups that lie before it in every chain of interest,"""
    outside: Sequence[BoolArray]
    """and behind it. What a slot cannot run lies before both of its boundaries or behind both."""
    pool: IntArray
    """Which price each place has; several share one where a few slots take all of them."""
    count: FloatArray
    """Slots of each pool."""


@dataclass(frozen=True, slots=True)
class Tilt:
    """Something that groups weigh if a boundary holds them."""

    boundary: int
    weight: FloatArray


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation."""

    bound_us: float
    """L."""
    amounts: FloatArray
    """What each price is for, in the cheapest chain, as far as it is charged."""
    chain: Sequence[BoolArray]


@dataclass(slots=True)
class Priced:
    """L for one order of kinds. Prices are those of the loads of all pools, then of the memory of
    those that are `held`."""

    slots: Slots
    cutoff_us: float
    time_us: FloatArray = field(init=False)
    """[place, group]; 0 where a slot cannot run a group: no chain has it there."""
    held: IntArray = field(init=False)
    """Pools of slots that have not memory for all."""
    memory_us: FloatArray = field(init=False)
    """[place, group]: m; 0 where all fits."""
    _pays: FloatArray = field(init=False)
    may: list[BoolArray] = field(init=False)
    """Of each boundary: nets that it may cut,"""
    _core: list[BoolArray] = field(init=False)
    """and those that are charged there."""
    _share: FloatArray = field(init=False)
    _chains: Chains = field(init=False)

    def __post_init__(self) -> None:
        slots, nets = self.slots, self.slots.nets
        time = slots.groups.time_us[list(slots.kinds)]
        is_able = np.isfinite(time)
        self.time_us = np.where(is_able, time, 0.0)
        rate = np.array([self.cutoff_us * per_byte(slots.groups, k) for k in slots.kinds])
        size = slots.groups.size_bytes[list(slots.kinds)]
        self.memory_us = np.where(is_able, size, 0.0) * rate[:, None]
        self.held = np.unique(slots.pool[rate > 0])
        self._pays = np.array([float(slots.groups.kinds[k].pays) for k in slots.kinds])
        bounds = list(zip(slots.inside, slots.outside, strict=True))
        self.may, sources = [], []
        for inside, outside in bounds:
            inner = nets.members @ inside.astype(np.int64)
            left = nets.members @ outside.astype(np.int64)
            self.may.append((inner < nets.size) & (left < nets.size))
            sources.append(self.may[-1] & ~(inside | outside)[nets.source])
        # charged where the source may lie on either side; else wherever the net may be cut
        has_source = np.any(sources, axis=0)
        self._core = [np.where(has_source, a, b) for a, b in zip(sources, self.may, strict=True)]
        self._share = 1.0 / np.maximum(np.sum(self._core, axis=0), 1)
        asked = [Between(*bound, core) for bound, core in zip(bounds, self._core, strict=True)]
        self._chains = Chains(nets, asked, list(~is_able[1:-1]))

    def at(self, prices: FloatArray, tilt: Tilt | None = None) -> Point:
        """L at prices, with more to pay for what one boundary holds."""
        time, nets, ends = self.time_us, self.slots.nets, range(len(self._core))
        first, last, charges, each = self._terms(prices)
        weights = _differences(each)
        if tilt is not None:
            weights[tilt.boundary] = weights[tilt.boundary] + tilt.weight
        value, chain = self._chains.cheapest(weights, charges)
        bound = float(each[-1].sum()) + value
        here = np.diff(np.array([*chain, np.ones_like(each[0])]), axis=0, prepend=0.0)
        loads = (here * time).sum(axis=1)
        for p in ends:
            spent = self._share * nets.cost_us * (nets.cut_by(chain[p]) & self._core[p])
            for at in (first[p], last[p]):
                loads += np.bincount(at, spent, len(loads)) * self._pays
        memory = (here * self.memory_us).sum(axis=1)
        pool = self.slots.pool
        amounts = np.bincount(pool, loads), np.bincount(pool, memory)[self.held]
        rounded = SLACK * (abs(bound) + float(each.sum()))
        return Point(bound - rounded, np.concatenate(amounts), chain)

    def rest(self, prices: FloatArray, boundary: int) -> tuple[FloatArray, FloatArray, float]:
        """What an ideal at one boundary costs at prices, by group and by net, and what all else
        costs at least, whatever the ideal."""
        _, _, charges, each = self._terms(prices)
        weights = _differences(each)
        mine = weights[boundary], charges[boundary]
        weights[boundary] = np.zeros_like(mine[0])
        charges[boundary] = np.zeros_like(mine[1])
        value, _ = self._chains.cheapest(weights, charges)
        alone = float(each[-1].sum())
        rounded = SLACK * (abs(alone + value) + float(each.sum()))
        return *mine, alone + value - rounded

    def _terms(
        self, prices: FloatArray
    ) -> tuple[list[IntArray], list[IntArray], list[FloatArray], FloatArray]:
        """First and last slots that pay least and what nets cost, by boundary; what groups cost, by
        slot."""
        ends, pool = range(len(self._core)), self.slots.pool
        pools = len(self.slots.count)
        of_memory = np.zeros(pools)
        of_memory[self.held] = prices[pools:]
        of_loads = prices[:pools][pool]
        first, last = self._least(of_loads)
        paid, cost = of_loads * self._pays, self._share * self.slots.nets.cost_us
        charges = [
            np.where(self._core[p], cost * (paid[first[p]] + paid[last[p]]), 0) for p in ends
        ]
        each = of_loads[:, None] * self.time_us + of_memory[pool][:, None] * self.memory_us
        return first, last, charges, each

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

    def best(self, prices: FloatArray, rounds: int, is_over: Callable[[], bool] = never) -> Plane:
        """The best of some evaluations that begin with given prices, and its bound on the largest
        load of plans below the cutoff; stops at a bound that refutes them."""
        shares = self._shares(is_load=True)
        spare = self.cutoff_us * self._shares(is_load=False)

        def ask(prices: FloatArray) -> Plane:
            prices = prices / float(shares @ prices)
            point = self.at(prices)
            value = point.bound_us - float(spare @ prices)
            return Plane(prices, value, point.amounts - spare, 0.0, point.chain)

        start = prices / float(shares @ prices)
        return ascend(ask, start, self.cutoff_us, rounds, is_over, shares)

    def least(
        self,
        tilt: Tilt,
        prices: FloatArray,
        rounds: int,
        is_over: Callable[[], bool] = never,
    ) -> Plane:
        """What the groups that a boundary holds weigh at least in plans below the cutoff T:
        min (weight + Σ λ·load + Σ μ·memory) - T·(Σ λ + Σ μ) for any λ, μ >= 0."""
        most = self.cutoff_us * self.limits()

        def ask(prices: FloatArray) -> Plane:
            point = self.at(prices, tilt)
            weight = float(tilt.weight[point.chain[tilt.boundary]].sum())
            value = point.bound_us - float(most @ prices)
            return Plane(prices, value, point.amounts - most, weight, point.chain)

        return ascend(ask, prices, np.inf, rounds, is_over)

    def limits(self) -> FloatArray:
        """How many times the cutoff each price's amount is at most."""
        return np.concatenate((self.slots.count, self.slots.count[self.held]))

    def _shares(self, *, is_load: bool) -> FloatArray:
        """The limits of loads alone, or of memory alone."""
        of_loads = np.arange(len(self.slots.count) + len(self.held)) < len(self.slots.count)
        return np.where(of_loads == is_load, self.limits(), 0.0)


def per_byte(groups: Groups, kind: int) -> float:
    """The part of a slot's memory that a byte takes; 0 where there is memory for all."""
    capacity = groups.kinds[kind].capacity_bytes
    is_slack = not 0 < capacity < np.inf or is_memory_slack(groups, kind)
    return 0.0 if is_slack else 1.0 / capacity


def _differences(each: FloatArray) -> list[FloatArray]:
    """a, by boundary: what a group costs the slot before it, less what it costs the one behind."""
    return list(each[:-1] - each[1:])
