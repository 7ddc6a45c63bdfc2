"""The Lagrangian dual: multipliers for the rows of `rows`, improved by cutting planes in a box.

For any λ >= 0 every plan costs at least
    L(λ) = constant + min over forests of Σ (aim + λ·use) + min over n, E of the rest - λ·rhs,
a concave function of a few multipliers. Each evaluation gives a plane above L; the next point is
the best of all planes within a box around the best point (the boxstep method: Marsten, Hogan and
Blankenship, "The Boxstep Method for Large-Scale Optimization", Operations Research 23, 1975).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import numpy as np
from scipy.optimize import linprog

from planner.ir.problem import Problem
from planner.solve.data import FloatArray, IntArray
from planner.solve.scale.forest import Forest, Sweep
from planner.solve.scale.labels import Labelled
from planner.solve.scale.rows import Rows

ENOUGH = 1e-5
"""Relative distance of the planes to the best point at which the dual counts as solved."""


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation."""

    multipliers: FloatArray
    bound: float
    slope: FloatArray
    labels: IntArray


@dataclass(slots=True)
class Dual:
    """A labelled problem's dual, with all planes found so far."""

    labelled: Labelled
    forest: Forest
    rows: Rows
    most_devices: FloatArray
    """By type."""
    unit: float
    """Size of the objective: grid of messages, and first box."""
    points: list[Point] = field(default_factory=list)
    _scale: FloatArray = field(init=False)
    _rhs: FloatArray = field(init=False)
    _per_device: FloatArray = field(init=False)
    _exposed: FloatArray = field(init=False)
    _use: list[FloatArray] = field(init=False)
    _sweep: Sweep = field(init=False)

    def __post_init__(self) -> None:
        self._scale = np.array([self._size(number) for number in range(len(self.rows.rows))])
        self._rhs = np.array([row.rhs for row in self.rows.rows]) / self._scale
        per_device = [row.per_device for row in self.rows.rows]
        count = len(self.rows.aim_device)
        self._per_device = np.array(per_device).reshape(-1, count) / self._scale[:, None]
        shapes = len(self.labelled.problem.shape_weights)
        owner = np.array([row.shape for row in self.rows.rows], dtype=np.int64)
        self._exposed = (owner[None, :] == np.arange(shapes)[:, None]) / self._scale[None, :]
        self._use = [use / self._scale for use in self.rows.use]
        self._sweep = Sweep(self.forest, self.unit)

    def _size(self, number: int) -> float:
        row = self.rows.rows[number]
        size = max(abs(row.rhs), float(np.abs(row.per_device * self.most_devices).max(initial=0.0)))
        return size or self.unit

    def costs(self, multipliers: FloatArray) -> list[FloatArray]:
        """Of each kind's labels under multipliers."""
        pairs = zip(self.rows.aim, self._use, strict=True)
        return [aim + use @ multipliers for aim, use in pairs]

    def _weights(self, multipliers: FloatArray) -> FloatArray:
        """Of each metric of the edges."""
        weights = np.zeros(1 + len(self.labelled.problem.shape_weights))
        weights[0] = self.rows.aim_metric
        for number, row in enumerate(self.rows.rows):
            if row.metric >= 0:
                weights[row.metric] += multipliers[number] / self._scale[number]
        return weights

    def relabel(self, multipliers: FloatArray, charges: dict[int, FloatArray]) -> IntArray:
        """Labels of least cost under multipliers when some operators are charged more."""
        weights = self._weights(multipliers)
        scaled = {op: weights[0] * each for op, each in charges.items()}
        return self._sweep.run(self.costs(multipliers), weights, scaled).labels()

    def evaluate(self, multipliers: FloatArray) -> Point:
        """L(λ) with a slope."""
        multipliers = self._valid(multipliers)
        weights = self._weights(multipliers)
        swept = self._sweep.run(self.costs(multipliers), weights)
        labels = swept.labels()
        if swept.least == np.inf:
            return Point(multipliers, np.inf, np.zeros(len(multipliers)), labels)
        value = self.rows.aim_device - multipliers @ self._per_device
        devices = _cheapest(value, self.most_devices, self.labelled.problem)
        bound = self.rows.constant + swept.least - multipliers @ self._rhs + value @ devices
        slope = self._used(labels) - self._rhs - self._per_device @ devices
        point = Point(multipliers, float(bound), slope, labels)
        self.points.append(point)
        return point

    def _valid(self, multipliers: FloatArray) -> FloatArray:
        """λ >= 0, and Σ over streams <= what E costs: otherwise L would be minus infinity."""
        found = np.maximum(multipliers, 0.0)
        for exposed, price in zip(self._exposed, self.rows.aim_exposed, strict=True):
            streams = float(found @ exposed)
            if streams > price:
                found = np.where(exposed > 0, found * (price / streams) * (1 - 1e-12), found)
        return found

    def _used(self, labels: IntArray) -> FloatArray:
        """Use of each row: labels, and the routes between them."""
        forest = self.forest
        used = np.zeros(len(self.rows.rows))
        for kind, use in enumerate(self._use):
            mine = labels[forest.kind_of == kind]
            used += np.bincount(mine, minlength=len(use)) @ use
        metrics = [row.metric for row in self.rows.rows]
        if max(metrics, default=-1) < 0:
            return used
        spent = np.zeros(1 + len(self.labelled.problem.shape_weights))
        for op in np.flatnonzero(forest.next >= 0).tolist():
            edge = forest.edges[forest.edge_of[op]]
            left, wanted = edge.leaves[labels[op]], edge.wants[labels[forest.next[op]]]
            spent += edge.costs[:, left, wanted]
        for number, metric in enumerate(metrics):
            if metric >= 0:
                used[number] += spent[metric] / self._scale[number]
        return used

    def solve(self, deadline: float, rounds: int, start: Point | None = None) -> Point:
        """The best point, from a known one; all rounds or the time end it."""
        best = start or self.evaluate(np.zeros(len(self.rows.rows)))
        radius = max(self.unit, 1e-12)
        for _ in range(rounds):
            if monotonic() > deadline or not len(best.multipliers) or best.bound == np.inf:
                break
            target, promised = self._step(best, radius)
            if target is None or promised <= best.bound + ENOUGH * max(abs(best.bound), 1e-300):
                break
            point = self.evaluate(target)
            if point.bound > best.bound:
                gained = (point.bound - best.bound) / max(promised - best.bound, 1e-300)
                best, radius = point, radius * (2.0 if gained > 0.5 else 1.0)
            else:
                radius *= 0.5
        return best

    def _step(self, best: Point, radius: float) -> tuple[FloatArray | None, float]:
        """The best point of all planes in a box around the best known one, and its promise."""
        count, unit = len(best.multipliers), self.unit
        planes = self.points[-200:]
        slopes = np.array([point.slope for point in planes])
        # everything in units of the objective: HiGHS works to absolute tolerances
        limits = np.array([p.bound - p.slope @ p.multipliers for p in planes]) / unit
        left = np.column_stack((-slopes, np.ones(len(planes))))
        if self._exposed.any():
            zeros = np.zeros((len(self._exposed), 1))
            left = np.vstack((left, np.hstack((self._exposed * unit, zeros))))
            limits = np.append(limits, self.rows.aim_exposed)
        low = np.maximum(best.multipliers - radius, 0.0) / unit
        high = (best.multipliers + radius) / unit
        bounds = [*zip(low, high, strict=True), (None, None)]
        costs = np.append(np.zeros(count), -1.0)
        result = linprog(costs, A_ub=left, b_ub=limits, bounds=bounds, method="highs")
        if result.status != 0:
            return None, best.bound
        return np.asarray(result.x[:count]) * unit, float(result.x[count]) * unit


def _cheapest(value: FloatArray, most: FloatArray, problem: Problem) -> FloatArray:
    """Numbers of devices of least value within counts and limits (fractions allowed)."""
    limits = problem.limits
    rows, sides = [], []
    if limits.devices is not None:
        rows.append(np.ones(len(value)))
        sides.append(float(limits.devices))
    if limits.price_per_hour is not None:
        rows.append(np.array([device.price_per_hour for device in problem.devices]))
        sides.append(limits.price_per_hour)
    if not rows:
        return np.where(value < 0, most, 0.0)
    result = linprog(
        value, A_ub=np.array(rows), b_ub=np.array(sides), bounds=[(0.0, m) for m in most]
    )
    return np.asarray(result.x)


def most_devices(problem: Problem) -> FloatArray:
    """The largest number of devices of each type that any plan could use."""
    found = []
    for device in problem.devices:
        degrees = [place.degree for place in problem.places if place.device == device.name]
        most = problem.stages * max(degrees, default=0)
        limits = (device.count, problem.limits.devices)
        found.append(min([most, *(limit for limit in limits if limit is not None)]))
    return np.array(found, dtype=np.float64)
