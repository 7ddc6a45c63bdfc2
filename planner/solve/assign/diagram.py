"""Schedules as paths through the ideals: a decision diagram, exact, restricted or relaxed.

A node is an ideal I (what is done), with labels (n, m, t): slots used of each bounded kind, the
largest finish so far, and for each operator u of the frontier F(I), whose result is still wanted,
the time t_u at which it is done. From I to I' one slot runs S = I' \\ I,

    start = max t_u over u in F(I) with a consumer in S;  finish = start + load(S)

or, one group at a time, an unlimited slot runs its operators as their producers finish. A label
that is nowhere smaller than another of its ideal is dominated. Any schedule is such a path, since
its slots wait for each other without a cycle.

Where an ideal has more labels than `width`, the worst are dropped (`restricted`: every path is
still a schedule, an upper bound) or merged into their least upper corner (`relaxed`: every schedule
is still a path, a lower bound). Bergman et al., Decision Diagrams for Optimization, 2016.

A slot that takes no less time than an unlimited slot would need for the same groups is dominated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from planner.solve.assign.flow import Flow
from planner.solve.assign.ideals import Ideals, reachable
from planner.solve.data import FloatArray, IntArray

EQUAL = 1e-12
"""Relative to the latest finish: labels closer than this count as equal."""


@dataclass(slots=True)
class Labels:
    """Labels of one ideal."""

    values: FloatArray
    """[label, column]: used slots of each bounded kind, largest finish, times of the frontier."""
    came: IntArray
    """[label, 3]: ideal before, its label, kind."""


@dataclass(slots=True)
class Diagram:
    """One pass through a family of ideals."""

    flow: Flow
    ideals: Ideals
    cutoff_us: float
    width: int
    is_relaxed: bool
    deadline: float
    is_exact: bool = True
    """Whether no ideal had more labels than the width."""
    is_complete: bool = True
    """Whether the deadline left time to go through all ideals."""
    labels: list[Labels | None] = field(default_factory=list)
    frontier: list[list[int]] = field(default_factory=list)
    """Operators wanted after each ideal."""
    tails: list[FloatArray] = field(default_factory=list)
    number: dict[bytes, int] = field(default_factory=dict)

    def run(self) -> float:
        """The least finish found or possible; infinite where nothing is below the cutoff."""
        ideals = self.ideals
        count = len(ideals.least_us)
        self.number = {ideals.member[i].tobytes(): i for i in range(count)}
        self.frontier, self.tails = [], []
        for wanted, member in zip(self.flow.frontiers(ideals.member), ideals.member, strict=True):
            if monotonic() > self.deadline:
                self.is_complete = False
                return np.inf
            self.frontier.append(wanted)
            self.tails.append(self.flow.tails(wanted, member))
        waiting: list[list[tuple[FloatArray, IntArray]]] = [[] for _ in range(count)]
        kinds = len(self.flow.bounded)
        waiting[0] = [(np.zeros((1, kinds + 1)), np.zeros((1, 3), dtype=np.int64))]
        self.labels = [None] * count
        for ideal in range(count):
            if monotonic() > self.deadline:
                self.is_complete = False
                return np.inf
            self._settle(ideal, waiting)
            labels = self.labels[ideal]
            if labels is not None and ideal + 1 < count:
                self._unlimited(ideal, labels, waiting)
                self._bounded(ideal, labels, waiting)
        return self.finish_us

    @property
    def finish_us(self) -> float:
        """The least finish, once all ideals were gone through."""
        last = self.labels[-1]
        return np.inf if last is None else float(last.values[:, len(self.flow.bounded)].min())

    def _settle(self, ideal: int, waiting: list[list[tuple[FloatArray, IntArray]]]) -> None:
        """Keeps what may still lead below the cutoff and is not dominated, up to the width."""
        arrived = waiting[ideal]
        waiting[ideal] = []
        if not arrived:
            return
        values = np.concatenate([value for value, _ in arrived])
        came = np.concatenate([origin for _, origin in arrived])
        kinds = len(self.flow.bounded)
        promise = values[:, kinds].copy()
        if len(self.frontier[ideal]):
            promise = np.maximum(promise, (values[:, kinds + 1 :] + self.tails[ideal]).max(axis=1))
        rows = np.flatnonzero(promise < self.cutoff_us)
        rows = rows[np.lexsort((values[rows].sum(axis=1), promise[rows]))]
        rows = rows[undominated(values[rows], self.width, EQUAL * float(values[:, kinds:].max()))]
        kept = rows[: self.width]
        if not len(kept):
            return
        found = Labels(values[kept], came[kept])
        if len(rows) > self.width:
            self.is_exact = False
            if self.is_relaxed:
                found = self._merged(found, values[rows[self.width :]], came[rows[self.width :]])
        self.labels[ideal] = found

    def _merged(self, found: Labels, values: FloatArray, came: IntArray) -> Labels:
        """The labels left over as one for each count of slots used: componentwise least."""
        kinds = len(self.flow.bounded)
        _, group = np.unique(values[:, :kinds], axis=0, return_inverse=True)
        least = [values[group == g].min(axis=0) for g in range(int(group.max()) + 1)]
        first = [came[np.flatnonzero(group == g)[0]] for g in range(int(group.max()) + 1)]
        return Labels(
            np.concatenate((found.values, np.array(least))),
            np.concatenate((found.came, np.array(first))),
        )

    def _unlimited(
        self, ideal: int, labels: Labels, waiting: list[list[tuple[FloatArray, IntArray]]]
    ) -> None:
        """One more group on an unlimited slot."""
        member = self.ideals.member[ideal]
        for group in self.flow.ready(member):
            grown = member.copy()
            grown[group] = True
            target = self.number.get(grown.tobytes())
            if target is None:
                continue
            for kind in self.flow.unlimited:
                if np.isfinite(self.flow.groups.time_us[kind, group]):
                    values = self._run_group(ideal, target, labels.values, group, kind)
                    waiting[target].append((values, self._origin(ideal, labels, kind)))

    def _run_group(
        self, ideal: int, target: int, values: FloatArray, group: int, kind: int
    ) -> FloatArray:
        kinds = len(self.flow.bounded)
        columns = {op: kinds + 1 + c for c, op in enumerate(self.frontier[ideal])}
        done: dict[int, FloatArray] = {}
        finish = values[:, kinds]
        for op in self.flow.groups.members[group]:
            start = np.zeros(len(values))
            for before in self.flow.before[op]:
                known = done[before] if before in done else values[:, columns[before]]
                start = np.maximum(start, known)
            done[op] = start + self.flow.op_time_us[kind, op]
            finish = np.maximum(finish, done[op])
        times = [done[op] if op in done else values[:, columns[op]] for op in self.frontier[target]]
        return np.column_stack([values[:, :kinds], finish, *times])

    def _origin(self, ideal: int, labels: Labels, kind: int) -> IntArray:
        count = len(labels.values)
        origin = np.empty((count, 3), dtype=np.int64)
        origin[:, 0], origin[:, 1], origin[:, 2] = ideal, np.arange(count), kind
        return origin

    def _bounded(
        self, ideal: int, labels: Labels, waiting: list[list[tuple[FloatArray, IntArray]]]
    ) -> None:
        """Several more groups on one slot of a bounded kind."""
        flow = self.flow
        kinds = len(flow.bounded)
        earliest = flow.longest_us(self.ideals.member[ideal])
        for column, kind in enumerate(flow.bounded):
            slots = len(flow.groups.kinds[kind].slots)
            rows = np.flatnonzero(labels.values[:, column] < slots)
            larger, load = reachable(flow.groups, self.ideals, ideal, kind, self.cutoff_us)
            if not len(rows) or not len(larger):
                continue
            added = self.ideals.member[larger] & ~self.ideals.member[ideal]
            alone = np.where(added, earliest, 0.0).max(axis=1)
            useful = load < alone
            values = labels.values[rows]
            entering = flow.entering(self.frontier[ideal], added[useful])
            origin = self._origin(ideal, labels, kind)[rows]
            for target, time, inputs in zip(
                larger[useful].tolist(), load[useful].tolist(), entering, strict=True
            ):
                times = values[:, kinds + 1 :][:, inputs]
                finish = times.max(axis=1, initial=0.0) + time
                used = values[:, :kinds].copy()
                used[:, column] += 1
                waiting[target].append((self._after(ideal, target, values, used, finish), origin))

    def _after(
        self, ideal: int, target: int, values: FloatArray, used: FloatArray, finish: FloatArray
    ) -> FloatArray:
        kinds = len(self.flow.bounded)
        columns = {op: kinds + 1 + c for c, op in enumerate(self.frontier[ideal])}
        result = np.empty((len(values), kinds + 1 + len(self.frontier[target])))
        result[:, :kinds] = used
        result[:, kinds] = np.maximum(values[:, kinds], finish)
        for c, op in enumerate(self.frontier[target]):
            column = columns.get(op)
            result[:, kinds + 1 + c] = finish if column is None else values[:, column]
        return result

    def slots(self) -> list[int] | None:
        """The slot of each group on a best path; only of a diagram that is not relaxed."""
        last = self.labels[-1]
        if last is None:
            return None
        kinds = len(self.flow.bounded)
        groups = self.flow.groups
        ideal, label = len(self.labels) - 1, int(last.values[:, kinds].argmin())
        free = {kind: iter(groups.kinds[kind].slots) for kind in self.flow.bounded}
        result = [-1] * groups.count
        while ideal:
            labels = self.labels[ideal]
            if labels is None:
                return None
            before, previous, kind = labels.came[label].tolist()
            is_new = self.ideals.member[ideal] & ~self.ideals.member[before]
            slot = next(free[kind]) if kind in free else groups.kinds[kind].slots[0]
            for group in np.flatnonzero(is_new).tolist():
                result[group] = slot
            ideal, label = before, previous
        return result


def undominated(values: FloatArray, width: int, equal: float) -> IntArray:
    """Rows that no earlier row dominates, or comes as close to that as counts as `equal`; rows come
    sorted so that dominators come first.

    Stops looking once far more than `width` rows are kept: what is behind then only costs time.
    """
    kept: list[int] = []
    left = np.arange(len(values))
    rest = values + equal
    while len(left):
        first = int(left[0])
        kept.append(first)
        if len(kept) > 4 * width:
            kept.extend(left[1:].tolist())
            break
        is_open = (rest < values[first]).any(axis=1)
        is_open[0] = False
        left, rest = left[is_open], rest[is_open]
    return np.array(kept, dtype=np.int64)
