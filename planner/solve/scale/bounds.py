"""Lower bounds of every way to man the stages: duals of few places, best first.

One dual over all places mixes places that never stand together: an operator on eight devices, the
next on one, in the memory of both. So every vector y of the fleet (how many stages at each place)
has a bound of its own: the largest that any dual gave whose places include those of y. The smallest
over all y bounds every plan. Duals are made for the vector with the smallest bound, first over a
largest set of places that includes its own, then over exactly these, then for the vector alone, as
long as the smallest bound lies below what is asked.

What the fullest stage decides (period, memory) is at least the mean over stages: the sum is bounded
and divided by the number of stages, which y knows.

Where several stages may follow each other, a second dual of the same places charges receiving by
counting stages (`fleet.receiving`) in place of transfers on the forest's edges: one place repeated
has no edge between places that could be charged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from planner.ir.problem import Objective
from planner.solve.data import BoolArray, FloatArray
from planner.solve.scale.clock import OutOfTimeError
from planner.solve.scale.dual import Dual, Point
from planner.solve.scale.edges import forest
from planner.solve.scale.fleet import Fleet, Receiving, fleet, receiving
from planner.solve.scale.forest import Forest
from planner.solve.scale.labels import Labelled
from planner.solve.scale.relaxations import Relaxations
from planner.solve.scale.rows import SPREAD, TIMED, Rows, rows

HOUR_US = 3.6e9
"""Microseconds an hour."""
MOST_COUNTED_OPS = 20_000
"""Operators up to which the second forest is made."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What raising bounds may take, and where it starts."""

    deadline: float
    rounds: int
    start: Point


@dataclass(slots=True)
class Bounds:
    """Bounds of one labelled problem and objective."""

    labelled: Labelled
    graph: Forest
    """That charges transfers on its edges."""
    objective: Objective
    unit: float
    deadline: float = np.inf
    """When evaluations give up."""
    fleet: Fleet = field(init=False)
    rows: Rows = field(init=False)
    known: FloatArray = field(init=False)
    """The best bound of each of the fleet's vectors; one number where they are not listed."""
    duals: list[Dual] = field(default_factory=list)
    """That of all places first."""
    _factor: FloatArray = field(init=False)
    """From sums over stages to the objective, by vector."""
    _counted: Forest | None = None
    _receiving: Receiving | None = None
    _done: set[bytes] = field(default_factory=set)
    _pairs: dict[bytes, list[Dual]] = field(default_factory=dict)
    """By set of places."""
    _relaxations: Relaxations = field(init=False)
    _learnt: dict[int, int] = field(default_factory=dict)
    """Points of each dual that are counted in `known`."""

    def __post_init__(self) -> None:
        problem = self.labelled.problem
        self.rows = rows(self.labelled, self.objective)
        self.fleet = fleet(problem)
        count = 1 if self.fleet.vectors is None else len(self.fleet.vectors)
        self.known = np.full(count, -np.inf)
        self._factor = _factor(self.labelled, self.fleet, self.objective)
        self._relaxations = Relaxations(
            problem, self.labelled.row, self.labelled.end, self.objective, self.deadline
        )
        usable = self.fleet.most > 0
        self.duals.append(self._dual(None if usable.all() else usable))
        if self.objective in TIMED and problem.stages > 1:
            found = receiving(problem)
            if found.stage_us.any():
                self._receiving = found

    @property
    def bound(self) -> float:
        """Of every plan; infinite where nothing may stand anywhere."""
        return float(self.known.min(initial=np.inf))

    @property
    def whole(self) -> Dual:
        """The dual over all places."""
        return self.duals[0]

    def _dual(self, support: BoolArray | None, counted: Forest | None = None) -> Dual:
        return Dual(
            self.labelled,
            self.graph if counted is None else counted,
            self.rows,
            self.fleet,
            self.unit,
            support,
            None if counted is None else self._receiving,
            self.deadline,
        )

    def start(self, deadline: float, rounds: int, best: Point | None = None) -> Point:
        """The dual over all places."""
        try:
            found = self.whole.solve(deadline, rounds, best)
        except OutOfTimeError:
            none = np.zeros(len(self.rows.rows))
            return best or Point(none, -np.inf, none, np.zeros(self.labelled.ops, dtype=np.int64))
        self._learn(self.whole)
        return found

    def _learn(self, dual: Dual) -> None:
        points = dual.points[self._learnt.get(id(dual), 0) :]
        self._learnt[id(dual)] = len(dual.points)
        if self.fleet.vectors is None:
            best = max((point.bound for point in points), default=-np.inf)
            values = np.array([np.inf if dual.is_impossible else best])
        else:
            values = self._of_vectors(dual, points)
        scaled = np.where(np.isfinite(values), values, 0.0) * self._factor
        np.maximum(self.known, np.where(np.isfinite(values), scaled, values), out=self.known)

    def _of_vectors(self, dual: Dual, points: Sequence[Point]) -> FloatArray:
        vectors = self.fleet.vectors
        assert vectors is not None
        found = np.full(len(vectors), np.inf if dual.is_impossible else -np.inf)
        for point in points:
            np.maximum(found, point.forest + vectors @ point.value, out=found)
        if dual.support is not None:
            found[(vectors[:, ~dual.support] > 0).any(axis=1)] = -np.inf
        return found

    def raise_to(self, target: float, deadline: float, rounds: int, best: Point) -> None:
        """Makes duals for the vectors of the smallest bounds until they exceed the target, nothing
        is left to try, or the time ends."""
        if self.fleet.vectors is None:
            return
        effort = Effort(deadline, rounds, best)
        try:
            while monotonic() < deadline and self.bound < target:
                if not self._raise_least(target, effort):
                    return
        except OutOfTimeError:
            return

    def _raise_least(self, target: float, effort: Effort) -> bool:
        """One step for the vector of the least bound; False where nothing is left to try."""
        assert self.fleet.vectors is not None
        number = int(self.known.argmin())
        vector = self.fleet.vectors[number]
        if self._raised(number, self._relaxations.alone(number, vector, effort.deadline)):
            return True
        step = self._next(target)
        if step is not None:
            self._work(*step, target, effort)
        return step is not None

    def branch(self, target: float, deadline: float, rounds: int, best: Point) -> None:
        """As `raise_to`, and where that has nothing left to try, by branching on where the first
        of two stages ends: seconds for what duals say in hundredths."""
        vectors = self.fleet.vectors
        while vectors is not None and monotonic() < deadline and self.bound < target:
            number = int(self.known.argmin())
            found = self._relaxations.branched(number, vectors[number], target, deadline)
            if not self._raised(number, found):
                return
            self.raise_to(target, deadline, rounds, best)

    def _raised(self, number: int, found: float | None) -> bool:
        """Takes the bound of one vector, if there is one."""
        if found is not None:
            self.known[number] = max(float(self.known[number]), found)
        return found is not None

    def _next(self, target: float) -> tuple[BoolArray, BoolArray] | None:
        """For the vectors of least bound in order: the largest untried set of places."""
        vectors = self.fleet.vectors
        assert vectors is not None
        number = int(self.known.argmin())
        own = vectors[number] > 0
        largest = [s for s in self.fleet.supports() if (s >= own).all()]
        open_ones = self.known < target
        for support in (*largest[:1], own):
            inside = ~(vectors[:, ~support] > 0).any(axis=1)
            if self._is_new(support, None):
                return support, inside & open_ones
        alone = np.zeros(len(vectors), dtype=np.bool_)
        alone[number] = True
        if self._is_new(own, number):
            return own, alone
        return None

    def _is_new(self, support: BoolArray, number: int | None) -> bool:
        name = support.tobytes() + (b"" if number is None else str(number).encode())
        if name in self._done:
            return False
        self._done.add(name)
        return True

    def _work(self, support: BoolArray, kept: BoolArray, target: float, effort: Effort) -> None:
        """Solves the duals of some places for some vectors; what earlier vectors taught them
        stays: a plane of one is a plane of all."""
        name = support.tobytes()
        if name not in self._pairs:
            self._pairs[name] = list(self._pair(support))
            self.duals += self._pairs[name]
        for dual in self._pairs[name]:
            if (self.known[kept] >= target).all():
                return
            dual.focus(self.fleet.keeping(kept))
            dual.enough = target / float(self._factor[kept].min())
            known = max(dual.points, key=lambda point: point.bound, default=None)
            start = known or dual.evaluate(effort.start.multipliers)
            dual.solve(effort.deadline, effort.rounds, start)
            self._learn(dual)

    def _pair(self, support: BoolArray) -> Iterator[Dual]:
        """The dual of some places, and the one that counts stages where that may be better."""
        yield self._dual(support)
        if self._receiving is None or not self._may_receive(support):
            return
        if support.sum() == 1 and self._moves_keep_forms():
            yield self._dual(support, self.graph)
        elif self.labelled.ops <= MOST_COUNTED_OPS:
            if self._counted is None:
                self._counted = forest(
                    self.labelled, self.labelled.end, free_moves=True, deadline=self.deadline
                )
            yield self._dual(support, self._counted)

    def _may_receive(self, support: BoolArray) -> bool:
        """Whether some vector of these places has so many stages that counting them pays."""
        assert self._receiving is not None
        assert self.fleet.vectors is not None
        inside = ~(self.fleet.vectors[:, ~support] > 0).any(axis=1)
        paid = self.fleet.vectors[inside] @ self._receiving.stage_us
        return bool((paid > self._receiving.free_us).any())

    def _moves_keep_forms(self) -> bool:
        """One place: the forest then charges no transfer."""
        moves = self.labelled.problem.transfers
        return all(move.source.form == move.target.form for move in moves)

    def guide(self, support: BoolArray) -> tuple[Dual, Point]:
        """The dual that says most about these places, with its best point."""
        fits = [d for d in self.duals if d.points and _includes(d, support)]
        dual = min(fits or [self.whole], key=lambda d: _size(d))
        return dual, max(dual.points, key=lambda point: point.bound)


def _factor(labelled: Labelled, stages: Fleet, objective: Objective) -> FloatArray:
    """The fullest of P stages takes 1/P of the sum at least; a query then costs so much an hour."""
    problem = labelled.problem
    if stages.vectors is None:
        known = {Objective.PERIOD: 1.0 / problem.stages, Objective.MEMORY: 1.0 / problem.stages}
        return np.array([0.0 if objective is Objective.QUERY_COST else known.get(objective, 1.0)])
    if objective not in SPREAD:
        return np.ones(len(stages.vectors))
    found = 1.0 / np.maximum(stages.vectors.sum(axis=1), 1)
    if objective is Objective.QUERY_COST:
        prices = np.array([device.price_per_hour for device in problem.devices])
        each = labelled.degree * prices[labelled.device]
        price = problem.settings[labelled.row].price_per_hour + stages.vectors @ each
        found = found * price / HOUR_US
    return np.asarray(found)


def _includes(dual: Dual, support: BoolArray) -> bool:
    return dual.support is None or bool((dual.support >= support).all())


def _size(dual: Dual) -> int:
    return len(dual.labelled.places) + 1 if dual.support is None else int(dual.support.sum())
