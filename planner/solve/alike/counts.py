"""The integer program of counts, and what it proves.

    minimise  Σ n[k,o]·cost(o)                                 weighted expected latency
    Σ_o n[k,o] = operators of kind k                           C1
    Σ bytes(o)·n + W + H <= room, for each group of kinds      C4, all devices of the group together
    W >= scratch(o), H >= held(o) where n[k,o] >= 1            C4: the largest of each, at least
    Σ error(o)·n <= budget                                     C10
    Σ time_w(o)·n <= limit for every shape w                   C8, at one end of the intervals

Stages, transfers, the order of groups and most of what is held are left out: it is a relaxation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from planner.solve.alike.kinds import BYTES, COST, ERROR, HELD, SCRATCH, TIMES, Kind
from planner.solve.data import FloatArray

SAFE = 1e-6
"""Relative tolerance of the solver on rows and bounds."""
_INFEASIBLE, _OPTIMAL = 2, 0


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


@dataclass(frozen=True, slots=True)
class Counted:
    """What came out."""

    is_infeasible: bool
    bound_us: float
    counts: tuple[tuple[int, ...], ...] | None
    """Per kind, how many operators take each option; None where none were found."""


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
    counts = None if found.x is None else program.counts(found.x)
    return Counted(False, max(known, least), counts)


class _Program:
    """Rows and columns: a count for each option of each kind, whether it is used, W and H."""

    def __init__(self, kinds: Sequence[Kind], frame: Frame) -> None:
        self._kinds, self._frame = kinds, frame
        self._sizes = [len(kind.rows) for kind in kinds]
        self._start = np.concatenate(([0], np.cumsum(self._sizes)))
        table = np.concatenate([kind.rows for kind in kinds])
        many = np.concatenate([np.full(len(k.rows), float(len(k.ops))) for k in kinds])
        count, groups = len(table), len(frame.rooms)
        self.width = 2 * count + 2 * groups
        self.scale = max(float((table[:, COST] * many).max()), 1e-9)
        self.cost = np.zeros(self.width)
        self.cost[:count] = table[:, COST] / self.scale
        self.integral = np.concatenate((np.ones(2 * count), np.zeros(2 * groups)))
        self.upper = np.concatenate((many, np.ones(count), np.full(2 * groups, 1.0)))
        self._entries: list[tuple[int, int, float]] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self._cover()
        self._limits(table)
        self._memory(table, many)

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
        count = len(table)
        for group, room in enumerate(self._frame.rooms):
            unit = max(room, 1.0)
            scratch, held = 2 * count + 2 * group, 2 * count + 2 * group + 1
            own = [
                c
                for n, kind in enumerate(self._kinds)
                if kind.group == group
                for c in range(self._start[n], self._start[n + 1])
            ]
            terms = [(c, float(table[c, BYTES]) / unit) for c in own]
            self._row([*terms, (scratch, 1.0), (held, 1.0)], -np.inf, max(room, 0.0) / unit)
            for column, extra in ((SCRATCH, scratch), (HELD, held)):
                self._largest(group, table, many, column, extra, unit)

    def _largest(
        self, group: int, table: FloatArray, many: FloatArray, column: int, extra: int, unit: float
    ) -> None:
        """What is used at least once is there in full; what some kind cannot avoid, always is."""
        kinds = [(n, k) for n, k in enumerate(self._kinds) if k.group == group]
        base = max((float(k.rows[:, column].min()) for _, k in kinds), default=0.0)
        self._row([(extra, 1.0)], base / unit, np.inf)
        count = len(table)
        for n, _ in kinds:
            for c in range(self._start[n], self._start[n + 1]):
                size = float(table[c, column])
                if size > base:
                    self._row([(c, -1.0), (count + c, many[c])], 0.0, np.inf)
                    self._row([(extra, 1.0), (count + c, -size / unit)], 0.0, np.inf)
