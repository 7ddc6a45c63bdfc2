"""Where to cut a large pipeline: sequences of places, and the cuts that share out time and memory.

A cut lies between two operators of the topological order. For each sequence of places, cuts are
found by dynamic programming over prefix sums of what operators cost and hold at each place under
the dual's multipliers; memory beyond a stage's capacity is charged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from planner.ir.devices import Place
from planner.ir.problem import Problem
from planner.solve.data import FloatArray, IntArray
from planner.solve.scale.labels import Labelled, Stages

MOST_CUTS = 400
"""Positions between which cuts are chosen."""
OVERFLOW = 4.0
"""Charge of a stage's memory overflow, relative to the whole cost per capacity."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What each operator costs and holds at each place under multipliers: (ops, places)."""

    cost: FloatArray
    held: FloatArray


def profile(labelled: Labelled, costs: list[FloatArray]) -> Profile:
    """Each operator's cheapest label at each place, and the bytes that it holds."""
    count = len(labelled.places)
    by_kind_cost = np.full((len(labelled.kinds), count), np.inf)
    by_kind_held = np.zeros((len(labelled.kinds), count))
    for number, kind in enumerate(labelled.kinds):
        for k in range(count):
            mine = np.flatnonzero(kind.place == k)
            if len(mine):
                best = mine[costs[number][mine].argmin()]
                by_kind_cost[number, k] = costs[number][best]
                by_kind_held[number, k] = kind.held_bytes[best]
    return Profile(by_kind_cost[labelled.kind_of], by_kind_held[labelled.kind_of])


def sequences(problem: Problem) -> Iterator[tuple[int, ...]]:
    """Sequences of places worth trying: one place repeated, or one after another place."""
    places = problem.places
    counts = range(1, problem.stages + 1)
    for k, n in product(range(len(places)), counts):
        if is_affordable(problem, (k,) * n):
            yield (k,) * n
    for a, b in product(range(len(places)), repeat=2):
        if a == b:
            continue
        for n, m in product(counts, counts):
            found = (a,) * n + (b,) * m
            if n + m <= problem.stages and is_affordable(problem, found):
                yield found


def is_affordable(problem: Problem, sequence: tuple[int, ...]) -> bool:
    """C11: counts by type, devices in all, price."""
    limits, places = problem.limits, problem.places
    devices = {device.name: device for device in problem.devices}
    used: dict[str, int] = {}
    for k in sequence:
        used[places[k].device] = used.get(places[k].device, 0) + places[k].degree
    if any((count := devices[name].count) is not None and n > count for name, n in used.items()):
        return False
    price = sum(devices[name].price_per_hour * n for name, n in used.items())
    total = sum(used.values())
    within = limits.price_per_hour is None or price <= limits.price_per_hour
    return within and (limits.devices is None or total <= limits.devices)


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to cut: an estimate of its cost, and the stages."""

    estimate: float
    stages: Stages


def cut(
    labelled: Labelled,
    found: Profile,
    sequence: tuple[int, ...],
    capacity: FloatArray,
    *,
    is_fullest: bool = False,
) -> Cut | None:
    """The best cuts for a sequence of places; None where some operator cannot run there.

    Args:
        capacity: bytes for weights on each device of each place.
        is_fullest: the stage of largest cost counts, not the sum.
    """
    ops = labelled.ops
    marks = np.unique(np.linspace(0, ops, min(ops, MOST_CUTS) + 1).astype(np.int64))
    cost = np.vstack((np.zeros(len(labelled.places)), found.cost.cumsum(axis=0)))[marks].copy()
    held = np.vstack((np.zeros(len(labelled.places)), found.held.cumsum(axis=0)))[marks]
    if not np.isfinite(cost[-1][list(set(sequence))]).all():
        return None
    cost[~np.isfinite(cost)] = 0.0  # of places that this sequence does not use
    whole = float(cost[-1][list(sequence)].mean())
    best = np.full(len(marks), np.inf)
    best[0] = 0.0
    came: list[IntArray] = []
    for k in sequence:
        over = np.maximum((held[None, :, k] - held[:, None, k]) / max(capacity[k], 1.0) - 1.0, 0.0)
        here = cost[None, :, k] - cost[:, None, k] + OVERFLOW * abs(whole) * over
        total = np.maximum(best[:, None], here) if is_fullest else best[:, None] + here
        total[np.tril_indices(len(marks))] = np.inf
        came.append(total.argmin(axis=0))
        best = total.min(axis=0)
    if not np.isfinite(best[-1]):
        return None
    ends = [len(marks) - 1]
    for previous in reversed(came):
        ends.append(int(previous[ends[-1]]))
    bounds = marks[np.array(ends[::-1])]
    stage = np.searchsorted(bounds[1:], np.arange(ops), side="right")
    places: tuple[Place, ...] = tuple(labelled.places[k] for k in sequence)
    return Cut(float(best[-1]), Stages(places, stage.astype(np.int64)))
