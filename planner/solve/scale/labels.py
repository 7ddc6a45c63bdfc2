"""Large pipelines as labels on operators: what one operator may be, with what it uses of each row.

A label of operator o is (option g that computes o, place k, store r or none). Operators with the
same labels share one `Kind`, so that a thousand identical blocks cost as much memory as one.
An option's costs are carried by its first operator; its other operators get labels without cost.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.ir.devices import Place
from planner.ir.problem import Latency, Option, Problem
from planner.solve.data import FloatArray, IntArray
from planner.solve.price import fetch_us
from planner.solve.scale.clock import look_at_clock
from planner.solve.scale.peaks import Peaks
from planner.solve.scale.routes import Router
from planner.solve.scale.sharing import Sharing
from planner.solve.stages.model import may_store

RESIDENT = -1
"""Store of a label whose weights are on the device."""
Table = tuple[tuple[Latency | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """The labels that operators of one kind have; arrays are indexed by label."""

    rank: IntArray
    """Which of the operator's options, in the order of the problem."""
    place: IntArray
    store: IntArray
    time_us: FloatArray
    """Expected, weighted over shapes."""
    charge_us: FloatArray
    """Its part of conversions that it shares with others (`sharing`)."""
    shape_us: FloatArray
    """Expected: (labels, shapes)."""
    high_us: FloatArray
    """(labels, shapes), at the end of C8 that is asked for."""
    error: FloatArray
    energy_j: FloatArray
    held_bytes: FloatArray
    """Resident weights, caches, and its part of activations (`peaks`), on each device."""
    fetch_us: FloatArray
    stored_bytes: FloatArray
    """Weights that live in the store, of each rank."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Places of the stages, in order, and the stage of each operator."""

    places: tuple[Place, ...]
    of: IntArray


@dataclass(frozen=True, slots=True)
class Labelled:
    """A problem under one setting with one kind an operator."""

    problem: Problem
    places: tuple[Place, ...]
    """The problem's, or one a stage where operators have been given stages."""
    row: int
    end: str
    """Which end of the intervals C8 counts: `high_us`, ..."""
    covering: list[list[int]]
    """Options of each operator."""
    first: list[int]
    """First operator of each option: it carries the costs."""
    kinds: list[Kind]
    kind_of: IntArray
    """Kind of each operator."""
    degree: FloatArray
    """Of each place."""
    device: IntArray
    """Device type of each place."""

    @property
    def ops(self) -> int:
        """Number of operators."""
        return len(self.problem.ops)

    def kind(self, op: int) -> Kind:
        """An operator's labels."""
        return self.kinds[int(self.kind_of[op])]

    def option(self, op: int, label: int) -> int:
        """Number of the option behind a label."""
        return self.covering[op][int(self.kind(op).rank[label])]


def label(
    problem: Problem,
    row: int,
    end: str,
    stages: Stages | None = None,
    deadline: float = np.inf,
) -> Labelled:
    """Labels of every operator under one setting. O(options).

    On given stages all weights are resident: which of them stream is decided afterwards
    (`residency`).

    Raises:
        OutOfTimeError: the deadline passed.
    """
    index = {name: number for number, name in enumerate(problem.ops)}
    covering: list[list[int]] = [[] for _ in problem.ops]
    first = []
    for g, option in enumerate(problem.options):
        members = [index[name] for name in option.ops]
        first.append(min(members))
        if stages is not None and len({int(stages.of[op]) for op in members}) > 1:
            continue
        for op in members:
            covering[op].append(g)
    places = stages.places if stages is not None else problem.places
    router = Router(problem, places, row, end)
    sharing = Sharing(problem, covering)
    after = hand_over(problem)
    charges = sharing.charges(router, after, first, len(places))
    devices = {device.name: number for number, device in enumerate(problem.devices)}
    peaks = Peaks(problem, first) if stages is None else None
    maker = _Maker(problem, places, row, end, peaks, charges)
    known: dict[Hashable, int] = {}
    kinds: list[Kind] = []
    kind_of = np.zeros(len(problem.ops), dtype=np.int64)
    for op, members in enumerate(covering):
        look_at_clock(op, deadline)
        only = int(stages.of[op]) if stages is not None else -1
        windows = maker.windows(op)
        key = (only, windows, tuple(maker.key(g, first[g] == op) for g in members))
        if key not in known:
            known[key] = len(kinds)
            carried = [first[g] == op for g in members]
            kinds.append(maker.kind(members, carried, only, windows))
        kind_of[op] = known[key]
    degree = np.array([place.degree for place in places], dtype=np.float64)
    device = np.array([devices[place.device] for place in places], dtype=np.int64)
    return Labelled(problem, places, row, end, covering, first, kinds, kind_of, degree, device)


def hand_over(problem: Problem) -> list[int]:
    """The operator that each hands its tensor to, its first consumer; -1 where nobody reads."""
    index = {name: number for number, name in enumerate(problem.ops)}
    after = [-1] * len(problem.ops)
    for producer, consumer in problem.edges:
        a, b = index[producer], index[consumer]
        if after[a] < 0 or b < after[a]:
            after[a] = b
    return after


class _Maker:
    """Makes kinds; tables that are the same object are compared once."""

    def __init__(
        self,
        problem: Problem,
        places: tuple[Place, ...],
        row: int,
        end: str,
        peaks: Peaks | None,
        charges: dict[int, FloatArray],
    ) -> None:
        self._charges = charges
        self._nothing = np.zeros(len(places))
        self._problem, self._places, self._row, self._end = problem, places, row, end
        self._peaks = peaks
        self._sure: dict[int, float] = {}
        self._read: dict[int, tuple[float, list[float]]] = {}
        self._seen: dict[int, int] = {}
        self._tables: dict[Table, int] = {}
        devices = {device.name: device for device in problem.devices}
        self._device = [devices[place.device] for place in places]

    def key(self, g: int, carries: bool) -> Hashable:
        """Equal for options that make the same labels."""
        option = self._problem.options[g]
        identity = id(option.latency)
        if identity not in self._seen:
            self._seen[identity] = self._tables.setdefault(option.latency, len(self._tables))
        return (
            carries,
            self._seen[identity],
            option.weight_size_bytes,
            option.cache_size_bytes,
            option.error,
            option.energy_j,
            option.place,
            option.stores,
            self._peak(g) if carries else 0.0,
            self._charges[g].tobytes() if carries and g in self._charges else b"",
        )

    def windows(self, op: int) -> tuple[float, ...]:
        """By store: the part of a weight that its slot is sure to cost (C7). A slot holds it at
        the positions op - ahead .. op, exactly one of which is a multiple of ahead + 1, and the
        largest sum is no less than the mean of the sums at these multiples."""
        count = len(self._problem.ops)
        stores = self._problem.stores if self._peaks is not None else ()
        return tuple(1.0 / math.ceil(count / (s.ahead + 1)) for s in stores)

    def kind(
        self,
        members: Sequence[int],
        carried: Sequence[bool],
        only: int,
        windows: tuple[float, ...],
    ) -> Kind:
        """The labels of one operator, at one place only or (-1) anywhere."""
        options = [self._problem.options[g] for g in members]
        rows = [
            (rank, k, r)
            for rank, option in enumerate(options)
            if all(cell is not None for cell in option.latency[self._row])
            for k in self._allowed(option)
            if only in (-1, k)
            for r in self._homes(option, k)
        ]
        values = [
            self._values(members[rank], k, r, windows) if carried[rank] else self._none
            for rank, k, r in rows
        ]
        charge = [
            float(self._charges.get(members[rank], self._nothing)[k]) if carried[rank] else 0.0
            for rank, k, _ in rows
        ]
        shapes = len(self._problem.shape_weights)
        table = np.array(values, dtype=np.float64).reshape(len(rows), 6 + 2 * shapes)
        names = np.array(rows, dtype=np.int64).reshape(len(rows), 3)
        return Kind(
            rank=names[:, 0].copy(),
            place=names[:, 1].copy(),
            store=names[:, 2].copy(),
            time_us=table[:, 0].copy(),
            charge_us=np.array(charge, dtype=np.float64),
            shape_us=table[:, 6 : 6 + shapes].copy(),
            high_us=table[:, 6 + shapes :].copy(),
            error=table[:, 1].copy(),
            energy_j=table[:, 2].copy(),
            held_bytes=table[:, 3].copy(),
            fetch_us=table[:, 4].copy(),
            stored_bytes=table[:, 5].copy(),
        )

    def _allowed(self, option: Option) -> list[int]:
        names = (None, option.place)
        here = option.place is None
        return [k for k, place in enumerate(self._places) if here or place.name in names]

    def _homes(self, option: Option, k: int) -> list[int]:
        if not option.weight_size_bytes or self._peaks is None:
            return [RESIDENT]
        stores = enumerate(self._problem.stores)
        return [RESIDENT, *(r for r, s in stores if may_store(option, s, self._device[k]))]

    @property
    def _none(self) -> list[float]:
        return [0.0] * (6 + 2 * len(self._problem.shape_weights))

    def _peak(self, g: int) -> float:
        """Its part of activations and workspace; operators with stages have theirs measured."""
        if self._peaks is None:
            return 0.0
        if g not in self._sure:
            self._sure[g] = self._peaks.bytes_of(g, self._problem.options[g])
        return self._sure[g]

    def _times(self, option: Option) -> tuple[float, list[float]]:
        """Weighted expected time; expected and asked-for ends by shape. Equal tables are one
        object, read once."""
        known = self._read.get(id(option.latency))
        if known is None:
            cells = [cell for cell in option.latency[self._row] if cell is not None]
            pairs = zip(self._problem.shape_weights, cells, strict=True)
            ends = [cell.expected_us for cell in cells]
            ends += [float(getattr(cell, self._end)) for cell in cells]
            known = sum(q * cell.expected_us for q, cell in pairs), ends
            self._read[id(option.latency)] = known
        return known

    def _values(self, g: int, k: int, r: int, windows: tuple[float, ...]) -> list[float]:
        option = self._problem.options[g]
        weighted, ends = self._times(option)
        held, fetch, stored = float(option.weight_size_bytes), 0.0, 0
        if r != RESIDENT:
            held, stored = windows[r] * held, option.weight_size_bytes
            fetch = fetch_us(self._problem.stores[r], option, self._places[k].degree)
        held += option.cache_size_bytes + self._peak(g)
        return [weighted, option.error, option.energy_j, held, fetch, stored, *ends]
