"""Prices of groups from the sets known so far: the linear program of `packing`, and its box.

min θ + Σ_v ((c_v + δ_v)·a_v - (c_v - δ_v)·b_v)
Σ_{sets with v} λ_S + a_v - b_v = 1            so that |p_v - c_v| <= δ_v
Σ_{sets of kind k} λ_S <= n_k·θ
Σ_{sets of kind k} λ_S·size_k(S)/C_k <= n_k·θ       where memory may matter; dual m_k
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, hstack

from planner.solve.assign.glue import is_memory_slack
from planner.solve.assign.instance import Groups
from planner.solve.assign.windows import work
from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.lp import LinearProgram, NoVertex, minimise

FLAT = 0.3
"""Of the mean price: the least that a group's box is relative to."""
UNUSED = 1e-7
"""What a linear program may use of the box and still count as free of it."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What groups and memory are worth."""

    groups: FloatArray
    """[group], of any sign."""
    memory: FloatArray
    """[kind]: of all the memory of one slot, never negative; 0 where memory cannot matter."""

    def at(self, groups: Groups, kind: int) -> FloatArray:
        """[group]: worth at a slot of a kind, less the memory it takes there."""
        if not self.memory[kind]:
            return self.groups
        part = groups.size_bytes[kind] / groups.kinds[kind].capacity_bytes
        return np.asarray(self.groups - self.memory[kind] * part)

    def scaled(self, factor: float) -> Prices:
        """All of them times a factor."""
        return Prices(self.groups * factor, self.memory * factor)


def first_prices(groups: Groups) -> Prices:
    """Work, as bounds without crossings count it."""
    memory = np.zeros(len(groups.kinds))
    if groups.rates is not None:
        for k in np.flatnonzero(tight_memory(groups)):
            memory[k] = groups.rates.size_us_per_byte[k] * groups.kinds[k].capacity_bytes
    return Prices(work(groups), memory)


def tight_memory(groups: Groups) -> BoolArray:
    """[kind]: whether its memory is a row."""
    return np.array(
        [
            0 < kind.capacity_bytes < math.inf and not is_memory_slack(groups, k)
            for k, kind in enumerate(groups.kinds)
        ]
    )


@dataclass(frozen=True, slots=True)
class Priced:
    """A vertex of the linear program."""

    prices: Prices
    rounds: float
    """θ, and what leaving the box costs: no prices within it say more."""
    is_boxed: bool
    """Whether prices outside the box might say more."""


@dataclass(slots=True)
class Master:
    """The sets of each kind, with their loads."""

    groups: Groups
    sets: list[list[BoolArray]] = field(default_factory=list)
    loads_us: list[list[float]] = field(default_factory=list)
    _seen: set[tuple[int, bytes]] = field(default_factory=set)
    _members: csr_matrix = field(init=False)
    _sizes: IntArray = field(init=False)
    _costs_us: FloatArray = field(init=False)
    _tight: BoolArray = field(init=False)

    def __post_init__(self) -> None:
        """No set yet."""
        nets = self.groups.nets
        members = [(net.source, *net.targets) for net in nets]
        rows = np.repeat(np.arange(len(nets)), [len(net) for net in members])
        columns = np.array([v for net in members for v in net], np.int64)
        shape = len(nets), self.groups.count
        self._members = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()
        self._sizes = np.array([len(net) for net in members], np.int64)
        self._costs_us = np.array([net.cost_us for net in nets])
        self._tight = tight_memory(self.groups)
        self.sets = [[] for _ in self.groups.kinds]
        self.loads_us = [[] for _ in self.groups.kinds]

    def add(self, kind: int, found: BoolArray) -> bool:
        """Whether it is a new set."""
        key = kind, found.tobytes()
        if key in self._seen or not found.any():
            return False
        self._seen.add(key)
        self.sets[kind].append(found)
        self.loads_us[kind].append(self._load_us(kind, found))
        return True

    def _load_us(self, kind: int, found: BoolArray) -> float:
        load = float(self.groups.time_us[kind][found].sum())
        if not self.groups.kinds[kind].pays:
            return load
        inside = self._members @ found
        return load + float(self._costs_us[(inside > 0) & (inside < self._sizes)].sum())

    def solve(self, most_us: float, centre: Prices, width: float, limit_s: float) -> Priced | None:
        """Prices by the sets with loads within a cutoff; None where the solver gives up.

        Args:
            width: half the box, relative to the prices in its centre; infinite for no box.
        """
        groups, kinds = self.groups, len(self.groups.kinds)
        tight = np.flatnonzero(self._tight)
        packed = self._packed(most_us, tight)
        blocks, costs = [packed], [np.append(np.zeros(packed.shape[1] - 1), 1.0)]
        if math.isfinite(width):
            box, dear = self._box(centre, width, tight)
            blocks.append(box)
            costs.append(dear)
        is_group = np.arange(packed.shape[0]) < groups.count
        columns = sum(block.shape[1] for block in blocks)
        vertex = minimise(
            LinearProgram(
                costs=np.concatenate(costs),
                matrix=hstack(blocks).tocsr(),
                rhs=is_group.astype(np.float64),
                lower=np.zeros(columns),
                upper=np.full(columns, np.inf),
                is_equality=is_group,
            ),
            limit_s=limit_s,
        )
        if isinstance(vertex, NoVertex):
            return None
        memory = np.zeros(kinds)
        memory[tight] = np.maximum(-vertex.duals[groups.count + kinds :], 0.0)
        is_boxed = bool(vertex.values[packed.shape[1] :].sum() > UNUSED)
        return Priced(Prices(vertex.duals[: groups.count], memory), vertex.objective, is_boxed)

    def _packed(self, most_us: float, tight: IntArray) -> csr_matrix:
        """[group, kind and tight kind; set within the cutoff and θ]"""
        groups, kinds = self.groups, len(self.groups.kinds)
        slots = np.array([len(kind.slots) for kind in groups.kinds], np.float64)
        blocks = []
        for k in range(kinds):
            within = np.array(self.loads_us[k]) <= most_us
            inside = np.array(self.sets[k], np.float64).reshape(-1, groups.count)[within]
            kind = np.zeros((kinds, len(inside)))
            kind[k] = 1.0
            held = np.zeros((len(tight), len(inside)))
            held[tight == k] = inside @ (groups.size_bytes[k] / groups.kinds[k].capacity_bytes)
            blocks.append(csr_matrix(np.vstack((inside.T, kind, held))))
        theta = np.concatenate((np.zeros(groups.count), -slots, -slots[tight]))
        return hstack([*blocks, csr_matrix(theta[:, None])]).tocsr()

    def _box(self, centre: Prices, width: float, tight: IntArray) -> tuple[csr_matrix, FloatArray]:
        """Columns that keep each price at most, and at least, what the box allows."""
        count, kinds = self.groups.count, len(self.groups.kinds)
        size = np.abs(centre.groups)
        half = width * np.maximum(size, FLAT * size.mean())
        memory = centre.memory[tight]
        wide = width * np.maximum(memory, FLAT / self.groups.slot_count)
        rows = np.concatenate((np.arange(count), count + kinds + np.arange(len(tight))))
        sign = np.concatenate((np.ones(count), -np.ones(len(tight))))
        at = np.arange(len(rows))
        shape = count + kinds + len(tight), len(rows)
        most = coo_matrix((sign, (rows, at)), shape=shape)
        high = np.concatenate((centre.groups + half, memory + wide))
        low = np.concatenate((centre.groups - half, np.maximum(memory - wide, 0.0)))
        return hstack([most, -most]).tocsr(), np.concatenate((high, -low))
