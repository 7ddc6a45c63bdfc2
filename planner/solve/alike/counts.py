"""The integer program of counts, and what it proves.

    minimise  Σ n[k,o]·cost(o)                                 weighted expected latency
    Σ_o n[k,o] = operators of kind k                           C1
    Σ bytes(o)·n + W + H <= room, for each group of kinds      C4, all devices of the group together
    Σ_{o at p} bytes(o)·n + W + H <= room(p)·y[p]              C4, for y[p] stages at a place p
    Σ_{o at p, bytes(o) >= b} n <= floor(room(p) / b)·y[p]     C4, a stage holds whole ones: every b
    Σ degree(p)·y[p] <= devices, Σ y[p] <= stages              C11
    W >= scratch(o), H >= held(o) where n[k,o] >= 1            C4: the largest of each, at least
    Σ error(o)·n <= budget                                     C10
    Σ time_w(o)·n <= limit for every shape w                   C8, at one end of the intervals

Stages, transfers, the order of groups and most of what is held are left out: it is a relaxation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from planner.solve.alike.kinds import BYTES, COST, ERROR, HELD, PLACE, SCRATCH, TIMES, Kind
from planner.solve.data import FloatArray

SAFE = 1e-6
"""Relative tolerance of the solver on rows and bounds."""
_INFEASIBLE, _OPTIMAL = 2, 0
_MOST_AT_ONCE = 64
"""Operators of a stage up to which it matters that they are whole."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What counts must keep."""

    rooms: tuple[float, ...]
    """Bytes of all devices of each group of kinds."""
    error: float | None
    latency_us: tuple[float | None, ...]
    """Per workload shape, of what is counted."""
    end: int
    """Which end of the intervals is held to the limit: 0 low, 1 expected, 2 high."""
    fleet: Fleet | None = None
    """Instead of rooms: stages that may be set up."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Places that stages may take, as their options number them."""

    degrees: tuple[int, ...]
    rooms: tuple[float, ...]
    """Bytes of all devices of one stage there."""
    devices: int
    stages: int
    """At most, together."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What came out."""

    is_infeasible: bool
    bound_us: float
    counts: tuple[tuple[int, ...], ...] | None
    """Per kind, how many operators take each option; None where none were found."""
    stands: tuple[int, ...] = ()
    """Of a fleet, how many stages each place has."""


def columns_of(frame: Frame) -> list[int]:
    """Columns of the tables that count."""
    shapes = range(len(frame.latency_us))
    return [BYTES, ERROR, SCRATCH, HELD, COST, *(TIMES + 3 * w + frame.end for w in shapes)]


def count(kinds: Sequence[Kind], frame: Frame, time_limit_s: float, gap: float) -> Counted:
    """The least cost of counts that keep the frame."""
    if any(not len(kind.rows) for kind in kinds):
        return Counted(True, float("inf"), None)
    program = _Program(kinds, frame)
    options = {"time_limit": max(time_limit_s, 0.1), "mip_rel_gap": gap}
    found = milp(
        program.cost,
        integrality=program.integral,
        bounds=Bounds(np.zeros(program.width), program.upper),
        constraints=LinearConstraint(program.matrix(), program.low, program.high),
        options=options,
    )
    if found.status == _INFEASIBLE:
        return Counted(True, float("inf"), None)
    bound = found.mip_dual_bound
    least = sum(len(kind.ops) * float(kind.rows[:, COST].min()) for kind in kinds)
    scale = program.scale
    known = least if bound is None or not np.isfinite(bound) else float(bound) * scale * (1 - SAFE)
    if found.x is None:
        return Counted(False, max(known, least), None)
    return Counted(False, max(known, least), program.counts(found.x), program.stands(found.x))


class _Program:
    """Rows and columns: a count for each option of each kind, whether it is used, W and H."""

    def __init__(self, kinds: Sequence[Kind], frame: Frame) -> None:
        self._kinds, self._frame = kinds, frame
        self._sizes = [len(kind.rows) for kind in kinds]
        self._start = np.concatenate(([0], np.cumsum(self._sizes)))
        table = np.concatenate([kind.rows for kind in kinds])
        many = np.concatenate([np.full(len(k.rows), float(len(k.ops))) for k in kinds])
        fleet = frame.fleet
        stands = np.array([fleet.devices // d for d in fleet.degrees]) if fleet else np.empty(0)
        count, groups = len(table), len(fleet.rooms if fleet else frame.rooms)
        self.width = 2 * count + 2 * groups + len(stands)
        self.scale = max(float((table[:, COST] * many).max()), 1e-9)
        self.cost = np.zeros(self.width)
        self.cost[:count] = table[:, COST] / self.scale
        whole = np.ones(len(stands))
        self.integral = np.concatenate((np.ones(2 * count), np.zeros(2 * groups), whole))
        self.upper = np.concatenate((many, np.ones(count), np.full(2 * groups, 1.0), stands))
        self._entries: list[tuple[int, int, float]] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self._cover()
        self._limits(table)
        if fleet is None:
            self._memory(table, many)
        else:
            self._stages(table, many, fleet)

    def _row(self, terms: Sequence[tuple[int, float]], low: float, high: float) -> None:
        number = len(self.low)
        self._entries += [(number, column, value) for column, value in terms if value]
        self.low.append(low)
        self.high.append(high)

    def matrix(self) -> csr_array:
        """All rows."""
        rows, columns, values = zip(*self._entries, strict=True)
        return csr_array((values, (rows, columns)), shape=(len(self.low), self.width))

    def counts(self, x: FloatArray) -> tuple[tuple[int, ...], ...]:
        """Of each kind."""
        whole = np.rint(x).astype(int)
        ends = zip(self._start[:-1], self._start[1:], strict=True)
        return tuple(tuple(whole[a:b].tolist()) for a, b in ends)

    def stands(self, x: FloatArray) -> tuple[int, ...]:
        """Stages at each place of the fleet."""
        places = len(self._frame.fleet.degrees) if self._frame.fleet is not None else 0
        return tuple(np.rint(x[len(x) - places :]).astype(int).tolist()) if places else ()

    def _cover(self) -> None:
        for n, kind in enumerate(self._kinds):
            own = range(self._start[n], self._start[n + 1])
            self._row([(c, 1.0) for c in own], len(kind.ops), len(kind.ops))

    def _limits(self, table: FloatArray) -> None:
        frame = self._frame
        pairs = [(ERROR, frame.error)]
        pairs += [(TIMES + 3 * w + frame.end, us) for w, us in enumerate(frame.latency_us)]
        for column, limit in pairs:
            if limit is None:
                continue
            unit = max(abs(limit), 1e-300)
            terms = [(c, float(value) / unit) for c, value in enumerate(table[:, column])]
            self._row(terms, -np.inf, limit / unit * (1 + SAFE))

    def _memory(self, table: FloatArray, many: FloatArray) -> None:
        for group, room in enumerate(self._frame.rooms):
            kinds = [n for n, kind in enumerate(self._kinds) if kind.group == group]
            own = [c for n in kinds for c in range(self._start[n], self._start[n + 1])]
            least = {
                column: max((float(self._kinds[n].rows[:, column].min()) for n in kinds), default=0)
                for column in (SCRATCH, HELD)
            }
            terms = self._held(group, own, table, many, max(room, 1.0), least)
            self._row(terms, -np.inf, max(room, 0.0) / max(room, 1.0))

    def _stages(self, table: FloatArray, many: FloatArray, fleet: Fleet) -> None:
        """Each place holds what so many stages there hold; devices are shared out among them."""
        first = 2 * len(table) + 2 * len(fleet.rooms)
        for place, room in enumerate(fleet.rooms):
            own = np.flatnonzero(table[:, PLACE] == place).tolist()
            avoided = {SCRATCH: 0.0, HELD: 0.0}
            terms = self._held(place, own, table, many, max(room, 1.0), avoided)
            share = max(room, 0.0) / max(room, 1.0)
            self._row([*terms, (first + place, -share)], -np.inf, 0.0)
            for size in np.unique(table[own, BYTES][table[own, BYTES] > room / _MOST_AT_ONCE]):
                large = [(c, 1.0) for c in own if table[c, BYTES] >= size]
                self._row([*large, (first + place, -float(room // size))], -np.inf, 0.0)
        numbers = range(first, first + len(fleet.rooms))
        self._row([*zip(numbers, fleet.degrees, strict=True)], -np.inf, fleet.devices)
        self._row([(number, 1.0) for number in numbers], -np.inf, fleet.stages)

    def _held(
        self,
        group: int,
        own: Sequence[int],
        table: FloatArray,
        many: FloatArray,
        unit: float,
        least: Mapping[int, float],
    ) -> list[tuple[int, float]]:
        """Terms of what a group holds, in units: for good, and the largest of scratch and holds.

        Args:
            own: columns of its options.
            least: of scratch and holds, what it cannot avoid.
        """
        scratch = 2 * len(table) + 2 * group
        for column, extra in ((SCRATCH, scratch), (HELD, scratch + 1)):
            self._largest(own, table, many, column, extra, unit, least[column])
        terms = [(c, float(table[c, BYTES]) / unit) for c in own]
        return [*terms, (scratch, 1.0), (scratch + 1, 1.0)]

    def _largest(
        self,
        own: Sequence[int],
        table: FloatArray,
        many: FloatArray,
        column: int,
        extra: int,
        unit: float,
        base: float,
    ) -> None:
        """What is used at least once is there in full; what some kind cannot avoid, always is."""
        self._row([(extra, 1.0)], base / unit, np.inf)
        count = len(table)
        for c in own:
            size = float(table[c, column])
            if size > base:
                self._row([(c, -1.0), (count + c, many[c])], 0.0, np.inf)
                self._row([(extra, 1.0), (count + c, -size / unit)], 0.0, np.inf)
