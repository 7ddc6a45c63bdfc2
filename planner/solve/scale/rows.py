"""What couples the operators of a large pipeline: a few rows, relaxed with multipliers.

For every stage p the real constraints bound its own devices; summed over the stages they bound all
stages of a place together. With y_k stages at place k (`fleet` says which y the limits allow):
    memory/k      Σ bytes <= (capacity - fixed)·y_k                                        C4
    time/k        Σ time <= y_k / rate                                                     C9
    latency/w     φ·(H + Σ time(w)) <= SLO                                                 C8
    error, energy Σ <= limit                                                               C10, C11
    stream/r/w    Σ fetch <= Σ time(w) + E_w, latency counts q_w·E_w: streams end by then  C7
    store/r       Σ degree·bytes that live there <= capacity of the store                  C7
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from planner.ir.problem import Objective
from planner.solve.data import FloatArray
from planner.solve.scale.labels import Kind, Labelled

TIMED = (Objective.LATENCY, Objective.PERIOD, Objective.QUERY_COST)
"""Objectives that count the time of labels and edges."""
SPREAD = (Objective.PERIOD, Objective.QUERY_COST, Objective.MEMORY)
"""Objectives of the fullest stage: no less than the mean over stages, whose sum is bounded."""
_PLACED = ("memory", "time", "held", "period")
"""Rows of one place, or of one stage."""


@dataclass(frozen=True, slots=True)
class Row:
    """Σ use of labels + Σ use of routes <= rhs + Σ per_stage·y + E of one shape."""

    name: str
    rhs: float
    per_stage: FloatArray
    """By place."""
    shape: int = -1
    """Whose E counts; -1: none."""
    metric: int = -1
    """Metric of the edges' costs that counts in this row; -1: none."""
    factor: float = 1.0
    """Of that metric."""


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a labelled problem, for one objective."""

    rows: list[Row]
    use: list[FloatArray]
    """By kind: (labels, rows)."""
    aim: list[FloatArray]
    """By kind: the objective of each label."""
    aim_metric: float
    """How much of the edges' expected time the objective counts."""
    aim_stage: FloatArray
    """Objective of each stage, by place."""
    aim_exposed: FloatArray
    """Objective of each shape's E."""
    constant: float


def rows(labelled: Labelled, objective: Objective, capacity: FloatArray | None = None) -> Rows:
    """The rows that this problem's limits ask for.

    Args:
        capacity: bytes for weights in each stage's devices, where operators have stages: memory and
            time are then bounded stage by stage, and devices are no question any more.
    """
    problem = labelled.problem
    setting = problem.settings[labelled.row]
    found = _Collector(labelled)
    limits = problem.limits
    if capacity is not None:
        found.add_stages(capacity)
    devices = {device.name: device for device in problem.devices}
    for k, place in enumerate(labelled.places if capacity is None else ()):
        asked = (devices[place.device].memory_size_bytes, limits.memory_size_bytes)
        sizes = [size for size in asked if size is not None]
        if sizes:
            fixed = problem.activation_size_bytes + setting.size_bytes
            found.add_place("memory", k, float(max(min(sizes) - fixed, 0)))
        if limits.throughput_per_s is not None:
            found.add_place("time", k, 1e6 / limits.throughput_per_s)
    found.add_limits()
    if capacity is None:
        found.add_stores()
    constants = {
        Objective.LATENCY: sum(
            q * cell.expected_us
            for q, cell in zip(problem.shape_weights, setting.overhead, strict=True)
        ),
        Objective.COST: setting.price_per_hour,
    }
    return Rows(
        found.rows,
        found.uses(labelled.kinds),
        [_aim(kind, objective) for kind in labelled.kinds],
        float(objective in TIMED),
        _aim_stage(labelled, objective),
        np.array(problem.shape_weights) * float(objective in TIMED),
        constants.get(objective, 0.0),
    )


def _aim_stage(labelled: Labelled, objective: Objective) -> FloatArray:
    """What a stage adds to the objective by being there."""
    problem = labelled.problem
    prices = np.array([device.price_per_hour for device in problem.devices])
    fixed = problem.activation_size_bytes + problem.settings[labelled.row].size_bytes
    values: dict[Objective, FloatArray] = {
        Objective.COST: labelled.degree * prices[labelled.device],
        Objective.DEVICES: labelled.degree,
        Objective.MEMORY: np.full(len(labelled.places), float(fixed)),
    }
    return values.get(objective, np.zeros(len(labelled.places)))


def _aim(kind: Kind, objective: Objective) -> FloatArray:
    """What a label adds to the objective."""
    if objective in TIMED:
        return kind.time_us + kind.charge_us
    values: dict[Objective, FloatArray] = {
        Objective.ERROR: kind.error,
        Objective.ENERGY: kind.energy_j,
        Objective.MEMORY: kind.held_bytes,
    }
    return values.get(objective, np.zeros(len(kind.rank)))


class _Collector:
    """Gathers rows and computes what labels use of them."""

    def __init__(self, labelled: Labelled) -> None:
        self._labelled = labelled
        self.rows: list[Row] = []
        self.none = np.zeros(len(labelled.places))

    def add(self, row: Row) -> None:
        """Adds a row."""
        self.rows.append(row)

    def add_place(self, family: str, k: int, each: float) -> None:
        """Adds a row that y_k stages at place k bound together."""
        per_stage = self.none.copy()
        per_stage[k] = each
        self.rows.append(Row(f"{family}/{k}", 0.0, per_stage))

    def add_limits(self) -> None:
        """Adds latency, error and energy."""
        problem = self._labelled.problem
        limits, setting = problem.limits, problem.settings[self._labelled.row]
        for w, cell in enumerate(setting.overhead if limits.latency_us is not None else ()):
            end = float(getattr(cell, self._labelled.end))
            tail = setting.tail(w, is_low=self._labelled.end == "low_us")
            slo = (limits.latency_us or 0.0) / tail - end
            self.add(Row(f"latency/{w}", slo, self.none, metric=1 + w))
        for name in ("error", "energy_j"):
            limit = getattr(limits, name)
            if limit is not None:
                self.add(Row(name, float(limit), self.none))

    def add_stores(self) -> None:
        """Adds streams and capacities of stores."""
        shapes = range(len(self._labelled.problem.shape_weights))
        for r, store in enumerate(self._labelled.problem.stores):
            for w in shapes:
                self.add(Row(f"stream/{r}/{w}", 0.0, self.none, shape=w))
            if store.memory_size_bytes is not None:
                self.add(Row(f"store/{r}", float(store.memory_size_bytes), self.none))

    def add_stages(self, capacity: FloatArray) -> None:
        """Adds memory and time of every stage."""
        rate = self._labelled.problem.limits.throughput_per_s
        for stage, each in enumerate(capacity.tolist()):
            if each < float("inf"):
                self.rows.append(Row(f"held/{stage}", each, self.none))
            if rate is not None:
                self.rows.append(Row(f"period/{stage}", 1e6 / rate, self.none))

    def uses(self, kinds: Sequence[Kind]) -> list[FloatArray]:
        """By kind: (labels, rows). All kinds at once: a large problem has a thousand small ones."""
        every = _joined(kinds)
        found = np.zeros((len(every.rank), len(self.rows)))
        for number, row in enumerate(self.rows):
            found[:, number] = self._column(every, row)
        return np.split(found, np.cumsum([len(kind.rank) for kind in kinds[:-1]]))

    def _column(self, kind: Kind, row: Row) -> FloatArray:
        family, *numbers = row.name.split("/")
        which = int(numbers[0]) if numbers else -1
        if family == "latency":
            return kind.high_us[:, which]
        if family in _PLACED:
            amount = kind.held_bytes if family in ("memory", "held") else kind.time_us
            return np.where(kind.place == which, amount, 0.0)
        if family == "stream":
            fetch_us = np.where(kind.store == which, kind.fetch_us, 0.0)
            return fetch_us - kind.shape_us[:, int(numbers[1])]
        if family == "store":
            degree = self._labelled.degree[kind.place]
            return np.where(kind.store == which, degree * kind.stored_bytes, 0.0)
        return {"error": kind.error, "energy_j": kind.energy_j}[family]


def _joined(kinds: Sequence[Kind]) -> Kind:
    """The labels of all kinds, one after another."""
    return Kind(*(np.concatenate([getattr(k, f.name) for k in kinds]) for f in fields(Kind)))
