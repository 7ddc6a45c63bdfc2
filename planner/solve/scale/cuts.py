"""Where to cut a large pipeline, for a sequence of places: time, memory and transfers shared out.

A cut lies between two operators of the topological order, where little crosses. A stage from cut a
to cut b at place k is estimated by the dual of its own memory over a few prices π a byte,
    max over π of  Σ min over labels (cost + π·bytes) - π·capacity,
from prefix sums; cuts are found by dynamic programming over these and what crosses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from planner.ir.devices import Store
from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.scale.crossing import Crossing
from planner.solve.scale.labels import RESIDENT, Labelled, Stages

PRICES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0, 8.0)
"""Of all memory of a device, relative to the cost of the whole at its place."""
HIDDEN = 0.5
"""Share of what could stream for nothing that an estimate counts on."""
OVERFLOW = 4.0
"""Charge of a stage's overflow, relative to the whole cost per capacity."""
NOWHERE = 1e6
"""Cost of an operator where it cannot run, relative to the whole."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to cut: an estimate of its cost, and the stages."""

    estimate: float
    stages: Stages


@dataclass(frozen=True, slots=True)
class _Way:
    """The best cuts behind which a prefix of a sequence ends, by mark."""

    cost: FloatArray
    came: IntArray
    """From which mark."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage from one mark to a later one: (marks, marks), infinite elsewhere."""

    resident: FloatArray
    """With all weights on the device. Cuts are made by these: streams free what they free wherever
    the cuts are, and counting on them fills stages beyond what windows allow."""
    streaming: FloatArray
    """With streams behind what it computes."""


@dataclass(slots=True)
class Cutter:
    """Cuts for any sequence of places, under one set of multipliers."""

    labelled: Labelled
    costs: list[FloatArray]
    """Of each kind's labels, memory not counted."""
    capacity: FloatArray
    """Bytes on each device of each place."""
    crossed: Crossing
    offset: float = 0.0
    """Of every estimate."""
    is_fullest: bool = False
    """The stage of largest cost counts, not the sum."""
    is_even: bool = False
    """What the cheapest labels hold above the capacity is charged instead: where the multipliers
    do not know yet how scarce another limit is, stages that share memory evenly need little."""
    _flat: _Flat | None = None
    _stage: dict[int, _Stage] = field(default_factory=dict)
    _ways: dict[tuple[int, ...], _Way] = field(default_factory=dict)

    def cut(self, sequence: tuple[int, ...]) -> Cut | None:
        """The best cuts where nothing streams, estimated with what can stream; None where there
        are too few marks for so many stages, or no link."""
        ways = [self._way(sequence[: n + 1]) for n in range(len(sequence))]
        if not np.isfinite(ways[-1].cost[-1]):
            return None
        ends = [len(self.crossed.marks) - 1]
        for way in reversed(ways):
            ends.append(int(way.came[ends[-1]]))
        ends.reverse()
        bounds = self.crossed.marks[np.array(ends)]
        stage = np.searchsorted(bounds[1:], np.arange(self.labelled.ops), side="right")
        places = tuple(self.labelled.places[k] for k in sequence)
        return Cut(self._estimate(sequence, ends), Stages(places, stage.astype(np.int64)))

    def _estimate(self, sequence: tuple[int, ...], ends: list[int]) -> float:
        device, us = self.labelled.device, self.crossed.us
        costs = [
            float(self._staged(k).streaming[a, b])
            for k, (a, b) in zip(sequence, pairwise(ends), strict=True)
        ]
        moves = [
            float(us[device[k], device[j], end])
            for (k, j), end in zip(pairwise(sequence), ends[1:-1], strict=True)
        ]
        if self.is_fullest:
            costs = [max(us + cost for us, cost in zip((0.0, *moves), costs, strict=True))]
            moves = []
        return math.fsum((self.offset, *costs, *moves))

    def _way(self, prefix: tuple[int, ...]) -> _Way:
        if prefix not in self._ways:
            self._ways[prefix] = self._extended(prefix)
        return self._ways[prefix]

    def _extended(self, prefix: tuple[int, ...]) -> _Way:
        last = prefix[-1]
        here = self._staged(last).resident
        if len(prefix) == 1:
            return _Way(here[0].copy(), np.zeros(here.shape[1], dtype=np.int64))
        before = self._way(prefix[:-1]).cost
        device = self.labelled.device
        crossed = self.crossed.us[device[prefix[-2]], device[last]]
        if self.is_fullest:
            total = np.maximum(before[:, None], here + crossed[:, None])
        else:
            total = (before + crossed)[:, None] + here
        return _Way(total.min(axis=0), total.argmin(axis=0))

    def _staged(self, k: int) -> _Stage:
        if k not in self._stage:
            self._stage[k] = self._estimated(k)
        return self._stage[k]

    def _estimated(self, k: int) -> _Stage:
        marks = self.crossed.marks
        flat = self._flattened()
        usable = flat.usable(k)
        free = flat.cheapest(usable, self.labelled.kind_of)
        whole = float(np.abs(free.cost[np.isfinite(free.cost)]).sum()) or 1.0
        base = self._between(free.cost, whole)
        base[np.tril_indices(len(marks))] = np.inf
        capacity = float(self.capacity[k])
        found = _Stage(base, base.copy())
        if self.is_even:
            over = self._between(free.held_bytes, 0.0) / max(capacity, 1.0) - 1.0
            for cost in (found.resident, found.streaming):
                cost += OVERFLOW * whole * np.maximum(over, 0.0)
        elif 0 < capacity < math.inf:
            streamed = HIDDEN * self._streamed(k, free)
            for price in PRICES[1:]:
                each = price * whole / capacity
                cost = flat.least(usable, each)[self.labelled.kind_of]
                dual = self._between(cost, whole) - each * capacity
                np.maximum(found.resident, dual, out=found.resident)
                np.maximum(found.streaming, dual - each * streamed, out=found.streaming)
        return found

    def _flattened(self) -> _Flat:
        if self._flat is None:
            self._flat = _flat(self.labelled, self.costs)
        return self._flat

    def _between(self, values: FloatArray, whole: float) -> FloatArray:
        """Sums of what lies between two marks."""
        finite = np.where(np.isfinite(values), values, NOWHERE * whole)
        sums = np.concatenate(([0.0], finite.cumsum()))[self.crossed.marks]
        return np.asarray(sums[None, :] - sums[:, None])

    def _streamed(self, k: int, free: _Profile) -> FloatArray:
        """Bytes that a stage between two marks can stream behind what it computes."""
        marks = self.crossed.marks
        labelled, place = self.labelled, self.labelled.places[k]
        found = np.zeros((len(marks), len(marks)))
        time = np.minimum.reduce([self._between(us, 0.0) for us in free.shape_us.T])
        count = np.maximum(marks[None, :] - marks[:, None], 1)
        for store in labelled.problem.stores:
            if store.devices and place.device not in store.devices:
                continue
            windows = np.ceil(count / (store.ahead + 1))
            size = np.maximum(time, 0.0) * _pace(store, place.degree) * (1.0 - 1.0 / windows)
            limit = store.memory_size_bytes
            found += size if limit is None else np.minimum(size, limit / place.degree)
        return found


@dataclass(frozen=True, slots=True)
class _Flat:
    """The labels of all kinds with their weights on the device, one after another."""

    kind: IntArray
    starts: IntArray
    """First label of each kind."""
    place: IntArray
    is_carried: BoolArray
    """False for what another operator of a group carries: it costs nothing and says nothing."""
    cost: FloatArray
    held_bytes: FloatArray
    shape_us: FloatArray
    """(labels, shapes)"""

    def usable(self, k: int) -> BoolArray:
        """Labels at a place, those that are carried where there are any."""
        here = self.place == k
        some = np.logical_or.reduceat(here & self.is_carried, self.starts)
        return np.asarray(here & (self.is_carried | ~some[self.kind]))

    def least(self, usable: BoolArray, price: float) -> FloatArray:
        """By kind: the least cost with memory priced."""
        costs = np.where(usable, self.cost + price * self.held_bytes, np.inf)
        return np.asarray(np.minimum.reduceat(costs, self.starts))

    def cheapest(self, usable: BoolArray, kind_of: IntArray) -> _Profile:
        """By operator: the cheapest label, memory for nothing."""
        least = self.least(usable, 0.0)
        hits = np.flatnonzero(usable & (self.cost == least[self.kind]))
        kinds, first = np.unique(self.kind[hits], return_index=True)
        held, shape_us = np.zeros(len(least)), np.zeros((len(least), self.shape_us.shape[1]))
        held[kinds] = self.held_bytes[hits[first]]
        shape_us[kinds] = self.shape_us[hits[first]]
        return _Profile(least[kind_of], held[kind_of], shape_us[kind_of])


def _flat(labelled: Labelled, costs: list[FloatArray]) -> _Flat:
    """Every kind has labels of resident weights."""
    homes = [np.flatnonzero(kind.store == RESIDENT) for kind in labelled.kinds]
    pairs = list(zip(labelled.kinds, homes, strict=True))
    counts = np.array([len(home) for home in homes])
    held = np.concatenate([kind.held_bytes[home] for kind, home in pairs])
    time = np.concatenate([kind.time_us[home] for kind, home in pairs])
    return _Flat(
        np.repeat(np.arange(len(homes)), counts),
        np.concatenate(([0], counts.cumsum()[:-1])),
        np.concatenate([kind.place[home] for kind, home in pairs]),
        (time > 0) | (held > 0),
        np.concatenate([cost[home] for cost, home in zip(costs, homes, strict=True)]),
        held,
        np.concatenate([kind.shape_us[home] for kind, home in pairs]),
    )


@dataclass(frozen=True, slots=True)
class _Profile:
    """Each operator's cheapest label at one place; infinite cost where it has none."""

    cost: FloatArray
    held_bytes: FloatArray
    shape_us: FloatArray
    """(operators, shapes)"""


def _pace(store: Store, degree: int) -> float:
    """Bytes a microsecond into each device."""
    return store.bytes_per_us / (degree if store.is_shared else 1)
