"""How many stages stand at each place: every count that the limits allow, and what they cost.

A plan's stages, as a multiset of places, are one vector y. Under multipliers the dual wants the y
of least value: all of them are listed where they are few, otherwise fractions are allowed. A set of
places that never stand together (one takes all devices) is told apart by `supports`.

Receiving is charged by counting (C6): of P stages, all but those that run an option without needs
receive at least one transfer, so that P stages pay for P minus the number of such operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from planner.ir.problem import Problem
from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.lp import LinearProgram, Vertex, minimise

MOST_VECTORS = 20_000
"""Vectors up to which all are listed."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What may stand where. All arrays are indexed by place in their last dimension."""

    vectors: IntArray | None
    """(vectors, places); None: too many, `sides` bound them."""
    rows: FloatArray
    """Σ_k rows[i, k]·y_k <= sides[i]"""
    sides: FloatArray
    most: FloatArray
    """Stages at each place at most."""

    def least(self, value: FloatArray) -> FloatArray:
        """y of least Σ value·y (fractions where not all vectors are listed)."""
        if self.vectors is not None:
            if not len(self.vectors):
                return np.zeros(len(value))
            best = int((self.vectors @ value).argmin())
            return np.asarray(self.vectors[best], dtype=np.float64)
        most = np.asarray(self.most, np.float64)
        vertex = minimise(LinearProgram(value, self.rows, self.sides, np.zeros(len(most)), most))
        assert isinstance(vertex, Vertex), "y = 0 is always a point"
        return vertex.values

    def supports(self) -> list[BoolArray]:
        """The sets of places that stand together in some vector and in no larger set; one set of
        all places where vectors are not listed."""
        if self.vectors is None or not len(self.vectors):
            return [np.ones(len(self.most), dtype=np.bool_)]
        used = np.unique(self.vectors > 0, axis=0)
        return [
            one for one in used if not ((used >= one).all(axis=1) & (used > one).any(axis=1)).any()
        ]

    def within(self, support: BoolArray) -> Fleet:
        """Only vectors that stand at these places."""
        vectors = self.vectors
        if vectors is not None:
            vectors = vectors[~(vectors[:, ~support] > 0).any(axis=1)]
        return Fleet(vectors, self.rows, self.sides, np.where(support, self.most, 0.0))

    def keeping(self, kept: BoolArray) -> Fleet:
        """Only some of the vectors."""
        assert self.vectors is not None
        return Fleet(self.vectors[kept], self.rows, self.sides, self.most)


def fleet(problem: Problem) -> Fleet:
    """C11: devices by type and in all, price, and the number of stages."""
    places, limits = problem.places, problem.limits
    devices = {device.name: device for device in problem.devices}
    degree = np.array([place.degree for place in places], dtype=np.float64)
    price = degree * np.array([devices[place.device].price_per_hour for place in places])
    rows, sides = [np.ones(len(places))], [float(problem.stages)]
    for name, device in devices.items():
        if device.count is not None:
            here = np.array([place.device == name for place in places])
            rows.append(np.where(here, degree, 0.0))
            sides.append(float(device.count))
    if limits.devices is not None:
        rows.append(degree)
        sides.append(float(limits.devices))
    if limits.price_per_hour is not None:
        rows.append(price)
        sides.append(limits.price_per_hour)
    table, limit = np.array(rows), np.array(sides) * (1 + 1e-9)
    ratios = np.where(table > 0, limit[:, None] / np.maximum(table, 1e-300), np.inf)
    most = np.floor(ratios.min(axis=0))
    return Fleet(_vectors(table, limit, most), table, limit, most)


def _vectors(rows: FloatArray, sides: FloatArray, most: FloatArray) -> IntArray | None:
    """All vectors but the empty one, place by place; None where they are too many."""
    found = np.zeros((1, len(most)), dtype=np.int64)
    for k, n in enumerate(most.astype(np.int64).tolist()):
        grown = [found]
        for count in range(1, n + 1):
            more = found.copy()
            more[:, k] = count
            grown.append(more[(more @ rows.T <= sides).all(axis=1)])
            if sum(map(len, grown)) > MOST_VECTORS:
                return None
        found = np.concatenate(grown)
    return found[found.any(axis=1)]


@dataclass(frozen=True, slots=True)
class Receiving:
    """What stages pay at least for what they receive, expected and weighted."""

    stage_us: FloatArray
    """By place."""
    free_us: float
    """Of all stages together, what need not be paid: some start without receiving."""


def receiving(problem: Problem) -> Receiving:
    """The least transfer into each place, and how many stages may do without."""
    targets = [place.device for place in problem.places]
    sizes = {move.size_bytes for move in problem.transfers}
    by_device = dict.fromkeys(targets, np.inf)
    for link, size in product(problem.links, sizes):
        if link.target in by_device:
            pairs = zip(problem.shape_weights, size, strict=True)
            spent = sum(q * link.time_us(each) for q, each in pairs)
            by_device[link.target] = min(by_device[link.target], spent)
    each = np.array([by_device[device] for device in targets])
    each = np.where(np.isfinite(each), each, 0.0)
    given = {state.tensor for state in problem.given}
    starts = {
        op
        for option in problem.options
        if all(state.tensor in given for state in option.needs)
        for op in option.ops
    }
    return Receiving(each, len(starts) * float(each.max(initial=0.0)))
