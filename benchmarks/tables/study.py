"""Predicts every row of a folder: by what ships, or by fits that have not seen the row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.tables import metrics, runtimes, weigh
from benchmarks.tables.hardware import devices
from benchmarks.tables.learning import link_columns
from benchmarks.tables.observations import Message, Timed, timed
from benchmarks.tables.pricer import Pricer
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.runtimes import Timings
from benchmarks.tables.scores import Predicted
from benchmarks.tables.software import runtime_of
from benchmarks.tables.unmeasured import widened
from benchmarks.tables.wholes import Whole, whole_of
from planner.cost import collective, memory
from planner.cost.curves import Library
from planner.spec.fits import Curve

T = TypeVar("T", Timed, Message)
Array = npt.NDArray[np.float64]


@dataclass(slots=True)
class Rows:
    """A folder's rows by what they are."""

    kernels: list[tuple[Row, Timed]] = field(default_factory=list)
    messages: list[tuple[Row, Message]] = field(default_factory=list)
    wholes: list[tuple[Row, Whole]] = field(default_factory=list)
    memories: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    """Rows that say the model did not fit."""
    skipped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Table -> reason -> rows."""


def sort(tables: Mapping[str, Iterable[Row]]) -> Rows:
    """Understands every row, or keeps the reason why not."""
    found = Rows()
    for name, rows in tables.items():
        for row in rows:
            try:
                _sort(row, found)
            except UnpredictableError as reason:
                found.skipped[name][str(reason)] += 1
    return found


def _sort(row: Row, found: Rows) -> None:
    if weigh.is_out_of_memory(row):
        weigh.parts_of(row)
        weigh.capacity_gb(row)
        found.refused.append(row)
        return
    _ = row.measured
    if metrics.is_of_training(f"{row.metric} {row.model}"):
        raise UnpredictableError("training is not predicted")
    if weigh.is_memory(row):
        weigh.parts_of(row)
        weigh.capacity_gb(row)
        found.memories.append(row)
        return
    kernel = timed(row)
    if isinstance(kernel, Timed):
        found.kernels.append((row, kernel))
    elif kernel is not None:
        found.messages.append((row, kernel))
    else:
        found.wholes.append((row, whole_of(row)))


class Study:
    """Predictions of one folder."""

    def __init__(self, rows: Rows, library: Library, curves: Mapping[str, Curve]) -> None:
        """
        Args:
            curves: of software, by name.
        """
        self.rows = rows
        self.library = library
        self.curves = curves
        self.pricer = Pricer(library)

    def shipped(self) -> list[Predicted]:
        """By what ships with infopt."""
        found = self._kernels() + self._messages() + self._memories()
        timings, rows = self.timings()
        for row, case, features in zip(rows, timings.cases, timings.features, strict=True):
            latency_us, edges, source = runtimes.predict(case, features, self.curves)
            found.append(whole(row, case, latency_us, widened(case, edges), source))
        return found

    def timings(self) -> tuple[Timings, list[Row]]:
        """Whole models with what their kernels add up to; what a device cannot run is skipped."""
        cases = [case for _, case in self.rows.wholes]
        features = self.pricer.features(cases)
        usable = [bool(np.isfinite(row).all()) for row in features]
        for case in (c for c, ok in zip(cases, usable, strict=True) if not ok):
            reason = f"{case.device.name} cannot run {case.format} at this degree"
            self.rows.skipped[case.row.table][reason] += 1
        kept = [i for i, ok in enumerate(usable) if ok]
        chosen = [cases[i] for i in kept]
        measured = np.array([case.latency_us(case.row.measured) for case in chosen])
        return Timings(tuple(chosen), features[kept], measured), [c.row for c in chosen]

    def _kernels(self) -> list[Predicted]:
        groups: dict[tuple[str, str], list[tuple[Row, Timed]]] = defaultdict(list)
        for row, item in self.rows.kernels:
            groups[item.device, item.source].append((row, item))
        found = []
        for (name, source), pairs in groups.items():
            predictor = self.pricer.predictor(devices()[name], None, source)
            usable = [(r, t) for r, t in pairs if not _lacks(predictor.why_not, t)]
            for row, item in pairs:
                if _lacks(predictor.why_not, item):
                    self.rows.skipped[row.table][f"{name} lacks {item.key.split('/')[1]}"] += 1
            costs = predictor.kernels([item.work for _, item in usable])
            for (row, item), cost in zip(usable, costs, strict=True):
                edges = (cost.low_us / cost.expected_us, cost.high_us / cost.expected_us)
                found += scaled(
                    [(row, item)], np.array([cost.expected_us]), [edges], cost.source.value
                )
        return found

    def _messages(self) -> list[Predicted]:
        found = []
        for pairs in by(self.rows.messages, lambda m: f"{m.key} {m.source}").values():
            columns = link_columns([item for _, item in pairs])
            fit = collective.find(self.library, pairs[0][1].key, pairs[0][1].source)
            latencies = collective.latencies_us(columns, fit)
            edges = fit.edges(latencies, collective.extent(columns)).tolist()
            found += scaled(pairs, latencies, edges, "modelled")
        return found

    def _memories(self) -> list[Predicted]:
        found = []
        for row in self.rows.memories:
            model = memory.find(self.library, runtime_of(row))
            value = float(memory.total_gb(weigh.features([row]), model.factors)[0])
            value /= metrics.size_scale(row.metric)
            low, high = model.band
            source = model.source.value
            found.append(Predicted(row, row.measured, value * low, value, value * high, source))
        return found


def whole(
    row: Row, case: Whole, latency_us: float, edges: tuple[float, float], source: str
) -> Predicted:
    """A row that runs a whole model with its prediction, in the row's own unit."""
    values = sorted(case.value(latency_us * edge) for edge in edges)
    return Predicted(row, row.measured, values[0], case.value(latency_us), values[1], source)


def scaled(
    pairs: Sequence[tuple[Row, Timed | Message]],
    latencies: Array,
    edges: Sequence[Sequence[float]],
    source: str,
) -> list[Predicted]:
    """Rows with their predictions, in the rows' own units.

    Args:
        edges: low and high multiples of each.
    """
    found = []
    for (row, item), latency, (low, high) in zip(pairs, latencies.tolist(), edges, strict=True):
        ratio = latency / item.measured_us
        if metrics.is_rate(row.metric):
            low, high, ratio = 1 / high, 1 / low, 1 / ratio
        value = row.measured * ratio
        found.append(Predicted(row, row.measured, value * low, value, value * high, source))
    return found


def by(pairs: Sequence[tuple[Row, T]], key: Callable[[T], str]) -> dict[str, list[tuple[Row, T]]]:
    """Rows by what they observe."""
    found: dict[str, list[tuple[Row, T]]] = defaultdict(list)
    for row, item in pairs:
        found[key(item)].append((row, item))
    return found


def _lacks(why_not: Callable[[str], str | None], item: Timed) -> bool:
    family, _, format = item.key.partition("/")
    return family != "traffic" and why_not(format) is not None
