"""The Lagrangian dual: multipliers for the rows of `rows`, improved by cutting planes in a box.

For any λ >= 0 every plan costs at least
    L(λ) = constant + min over forests of Σ (aim + λ·use) + min over y, E of the rest - λ·rhs,
a concave function of a few multipliers. Each evaluation gives a plane above L; the next point is
the best of all planes within a box around the best point (the boxstep method: Marsten, Hogan and
Blankenship, "The Boxstep Method for Large-Scale Optimization", Operations Research 23, 1975).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.lp import LinearProgram, NoVertex, minimise
from planner.solve.scale.clock import OutOfTimeError
from planner.solve.scale.fleet import Fleet, Receiving
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
    forest: float = -np.inf
    """L without the part of y."""
    value: FloatArray = field(default_factory=lambda: np.zeros(0))
    """Of one stage at each place: L = forest + Σ value·y."""
    used: FloatArray = field(default_factory=lambda: np.zeros(0))
    """The slope without the part of y."""


@dataclass(slots=True)
class Dual:
    """A labelled problem's dual, with all planes found so far."""

    labelled: Labelled
    forest: Forest
    rows: Rows
    fleet: Fleet | None
    """What may stand where; None where operators have been given stages."""
    unit: float
    """Size of the objective: grid of messages, and first box."""
    support: BoolArray | None = None
    """The only places that are used; None: all."""
    receiving: Receiving | None = None
    """What each stage pays for being there, where the forest charges no transfers."""
    deadline: float = np.inf
    """When an evaluation gives up (`OutOfTimeError`)."""
    enough: float = np.inf
    """A bound at which the search may stop."""
    points: list[Point] = field(default_factory=list)
    is_impossible: bool = False
    """No labels fit together at these places."""
    _scale: FloatArray = field(init=False)
    _rhs: FloatArray = field(init=False)
    _per_stage: FloatArray = field(init=False)
    _aim_stage: FloatArray = field(init=False)
    _exposed: FloatArray = field(init=False)
    _use: list[FloatArray] = field(init=False)
    _sweep: Sweep = field(init=False)

    def __post_init__(self) -> None:
        self._scale = np.array([self._size(number) for number in range(len(self.rows.rows))])
        self._rhs = np.array([row.rhs for row in self.rows.rows]) / self._scale
        per_stage = [row.per_stage for row in self.rows.rows]
        count = len(self.rows.aim_stage)
        self._per_stage = np.array(per_stage).reshape(-1, count) / self._scale[:, None]
        self._aim_stage = self.rows.aim_stage
        if self.receiving is not None:
            self._aim_stage = self._aim_stage + self.receiving.stage_us
        shapes = len(self.labelled.problem.shape_weights)
        owner = np.array([row.shape for row in self.rows.rows], dtype=np.int64)
        self._exposed = (owner[None, :] == np.arange(shapes)[:, None]) / self._scale[None, :]
        self._use = [use / self._scale for use in self.rows.use]
        self._sweep = Sweep(self.forest, self.unit)

    def _size(self, number: int) -> float:
        row = self.rows.rows[number]
        most = self.fleet.most if self.fleet is not None else np.ones(len(row.per_stage))
        most = np.minimum(most, self.labelled.problem.stages)
        size = max(abs(row.rhs), float(np.abs(row.per_stage * most).max(initial=0.0)))
        return size or self.unit

    def costs(self, multipliers: FloatArray) -> list[FloatArray]:
        """Of each kind's labels under multipliers."""
        pairs = zip(self.rows.aim, self._use, strict=True)
        found = [aim + use @ multipliers for aim, use in pairs]
        if self.support is None:
            return found
        away = np.where(self.support, 0.0, np.inf)
        return [c + away[k.place] for c, k in zip(found, self.labelled.kinds, strict=True)]

    def offset(self, multipliers: FloatArray) -> float:
        """What L counts besides labels, edges and stages."""
        return float(self.rows.constant - multipliers @ self._rhs)

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
        swept = self._sweep.run(self.costs(multipliers), weights, deadline=self.deadline)
        labels = swept.labels()
        if swept.least == np.inf:
            self.is_impossible = True
            return Point(multipliers, np.inf, np.zeros(len(multipliers)), labels)
        value = self._aim_stage - multipliers @ self._per_stage
        rest = self.rows.constant + swept.least - multipliers @ self._rhs
        if self.receiving is not None:
            rest -= self.receiving.free_us
        used = self._used(labels) - self._rhs
        point = self._point(multipliers, labels, float(rest), value, used)
        self.points.append(point)
        return point

    def _point(
        self,
        multipliers: FloatArray,
        labels: IntArray,
        rest: float,
        value: FloatArray,
        used: FloatArray,
    ) -> Point:
        stages = self.fleet.least(value) if self.fleet is not None else np.zeros(len(value))
        bound, slope = float(rest + value @ stages), used - self._per_stage @ stages
        return Point(multipliers, bound, slope, labels, rest, value, used)

    def by_vector(self) -> FloatArray:
        """The best bound known of each of the fleet's vectors."""
        assert self.fleet is not None
        assert self.fleet.vectors is not None
        found = np.full(len(self.fleet.vectors), np.inf if self.is_impossible else -np.inf)
        for point in self.points:
            np.maximum(found, point.forest + self.fleet.vectors @ point.value, out=found)
        return found

    def narrow(self, kept: BoolArray) -> None:
        """From now on only some of the fleet's vectors; points are priced anew."""
        assert self.fleet is not None
        self.focus(self.fleet.keeping(kept))

    def focus(self, fleet: Fleet) -> None:
        """From now on these vectors; points are priced anew."""
        self.fleet = fleet
        self.points = [
            self._point(p.multipliers, p.labels, p.forest, p.value, p.used) for p in self.points
        ]

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
        if best.bound == np.inf:
            return best
        radius = max(self.unit, 1e-12)
        for _ in range(rounds):
            if monotonic() > deadline or not len(best.multipliers) or best.bound > self.enough:
                break
            target, promised = self._step(best, radius)
            if target is None or promised <= best.bound + ENOUGH * max(abs(best.bound), 1e-300):
                break
            try:
                point = self.evaluate(target)
            except OutOfTimeError:
                break
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
        costs = np.append(np.zeros(count), -1.0)
        lower, upper = np.append(low, -np.inf), np.append(high, np.inf)
        vertex = minimise(LinearProgram(costs, left, limits, lower, upper))
        if isinstance(vertex, NoVertex):
            return None, best.bound
        return vertex.values[:count] * unit, float(vertex.values[count]) * unit
