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
from benchmarks.tables.learning import FEWEST, learn_kernel, learn_link, link_columns
from benchmarks.tables.observations import Message, Timed, timed
from benchmarks.tables.pricer import Pricer, latencies_us
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.runtimes import Timings
from benchmarks.tables.scores import Predicted
from benchmarks.tables.software import SIMILAR
from benchmarks.tables.wholes import Whole, whole_of
from planner.cost.curves import Library, fitted
from planner.cost.family import FAMILIES
from planner.cost.fitting import bands
from planner.cost.links import PRIOR as LINK_PRIOR
from planner.cost.links import collective_us
from planner.cost.machine import Machine
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
        found.refused.append(row)
        return
    _ = row.measured
    if weigh.is_memory(row):
        weigh.parts_of(row)
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
        self._library = library
        self._curves = curves
        self._pricer = Pricer(library)

    def shipped(self) -> list[Predicted]:
        """By what ships with infopt."""
        found = self._kernels() + self._messages() + self._memories(self._curves)
        timings, rows = self.timings()
        for row, case, features in zip(rows, timings.cases, timings.features, strict=True):
            latency_us, curve = runtimes.predict(case, features, self._curves)
            found.append(_whole(row, case, latency_us, curve.band(latency_us), curve.source))
        return found

    def timings(self) -> tuple[Timings, list[Row]]:
        """Whole models with what their kernels add up to; what a device cannot run is skipped."""
        cases = [case for _, case in self.rows.wholes]
        features = self._pricer.features(cases)
        usable = [bool(np.isfinite(row).all()) for row in features]
        for case in (c for c, ok in zip(cases, usable, strict=True) if not ok):
            reason = f"{case.device.name} cannot run {case.format} at this degree"
            self.rows.skipped[case.row.table][reason] += 1
        kept = [i for i, ok in enumerate(usable) if ok]
        chosen = [cases[i] for i in kept]
        measured = np.array([case.latency_us(case.row.measured) for case in chosen])
        return Timings(tuple(chosen), features[kept], measured), [c.row for c in chosen]

    def _kernels(self) -> list[Predicted]:
        by_device: dict[str, list[tuple[Row, Timed]]] = defaultdict(list)
        for row, item in self.rows.kernels:
            by_device[item.device].append((row, item))
        found = []
        for name, pairs in by_device.items():
            predictor = self._pricer.predictor(devices()[name], None)
            usable = [(r, t) for r, t in pairs if not _lacks(predictor.why_not, t)]
            for row, item in pairs:
                if _lacks(predictor.why_not, item):
                    self.rows.skipped[row.table][f"{name} lacks {item.key.split('/')[1]}"] += 1
            costs = predictor.kernels([item.work for _, item in usable])
            for (row, item), cost in zip(usable, costs, strict=True):
                edges = (cost.low_us / cost.expected_us, cost.high_us / cost.expected_us)
                found += _scaled(
                    [(row, item)], np.array([cost.expected_us]), [edges], cost.source.value
                )
        return found

    def _messages(self) -> list[Predicted]:
        found = []
        for key, pairs in _by(self.rows.messages, lambda m: m.key).items():
            columns = link_columns([item for _, item in pairs])
            curve = self._library.link(key) or self._library.link(_nearest_link(key))
            if curve is None:
                typical = {name: value for name, (value, _) in LINK_PRIOR.items()}
                latencies, edges = collective_us(columns, typical), [(0.4, 2.5)] * len(pairs)
            else:
                fit = fitted(curve)
                latencies = collective_us(columns, fit.parameters)
                if fit.lattice is not None:
                    at = np.log2(np.column_stack([columns.size_bytes, columns.ranks]))
                    latencies = latencies * np.exp(fit.lattice.at(at))
                edges = [fit.band(x) for x in latencies.tolist()]
            found += _scaled(pairs, latencies, edges, "modelled")
        return found

    def _memories(self, curves: Mapping[str, Curve]) -> list[Predicted]:
        found = []
        for row in self.rows.memories:
            curve = curves.get(weigh.memory_key(row))
            at = fitted(curve).parameters if curve else weigh.typical()
            low, high = fitted(curve).band(0.0) if curve else (0.6, 1.6)
            value = float(weigh.memory_gb(weigh.features([row]), at)[0])
            value /= metrics.size_scale(row.metric)
            source = "interpolated" if curve else "modelled"
            found.append(Predicted(row, row.measured, value * low, value, value * high, source))
        return found

    def unseen_shapes(self) -> list[Predicted]:
        """By fits of the same tables that left each row's shape out."""
        found = []
        for group in _by(self.rows.kernels, lambda t: f"{t.device} {t.key}").values():
            if len(group) >= FEWEST:
                learnt = learn_kernel([item for _, item in group])
                found += _crossed(group, learnt.errors, learnt.predicted_us)
        for messages in _by(self.rows.messages, lambda m: m.key).values():
            if len(messages) >= FEWEST:
                link = learn_link([item for _, item in messages])
                found += _crossed(messages, link.errors, link.predicted_us)
        found += self._unseen_memories()
        timings, _ = self.timings()
        for chosen in timings.by([case.key for case in timings.cases]).values():
            if len(chosen) < runtimes.FEWEST:
                continue
            part = timings.where(chosen)
            whole = runtimes.joint(part)
            for inside in part.by([case.device.name for case in part.cases]).values():
                own = part.where(inside)
                learnt = runtimes.on_device(own, whole, runtimes.shape_groups(own.cases))
                found += _wholes(own, learnt.errors, learnt.predicted_us)
        return found

    def _unseen_memories(self) -> list[Predicted]:
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows.memories:
            groups[weigh.memory_key(row)].append(row)
        found = []
        for rows in (group for group in groups.values() if len(group) >= runtimes.FEWEST):
            learnt = runtimes.learn_memory(rows)
            _, low, high = bands(learnt.errors, learnt.predicted_us)[-1]
            for row, gb in zip(rows, learnt.predicted_us.tolist(), strict=True):
                value = gb / metrics.size_scale(row.metric)
                values = (value * low, value, value * high)
                found.append(Predicted(row, row.measured, *values, "interpolated"))
        return found

    def unseen_devices(self, without: Callable[[str], Library]) -> list[Predicted]:
        """By fits of other devices.

        Args:
            without: device -> what ships, less all that was learnt on its chip.
        """
        found = []
        for group in _by(self.rows.kernels, lambda t: f"{t.device} {t.key}").values():
            items = [item for _, item in group]
            library, device = without(items[0].device), devices()[items[0].device]
            fit = library.find(device, items[0].key)
            family = FAMILIES[items[0].key.split("/")[0]]
            columns = family.columns([i.work for i in items], items[0].key.split("/")[1])
            latencies = family.latency_us(columns, Machine.of(device), fit.parameters)
            if fit.lattice is not None:
                latencies = latencies * np.exp(fit.lattice.at(family.coordinates(columns)))
            found += _scaled(group, latencies, [fit.band(x) for x in latencies], "modelled")
        return found + self._unseen_device_wholes(without)

    def _unseen_device_wholes(self, without: Callable[[str], Library]) -> list[Predicted]:
        found = []
        cases = [case for _, case in self.rows.wholes]
        for name in sorted({case.device.name for case in cases}):
            pricer = Pricer(without(name))
            study = Study(self.rows, without(name), {})
            study._pricer = pricer
            timings, _ = study.timings()
            for runtime, here in timings.by([case.runtime for case in timings.cases]).items():
                part = timings
                here = [i for i in here if part.cases[i].device.name == name]
                there = _those_of(part, runtime, name)
                if not here:
                    continue
                found += _elsewhere(part.where(here), part.where(there))
        return found


def _those_of(timings: Timings, runtime: str, device: str) -> list[int]:
    """Rows of one software, or else of a similar one, on other devices."""
    for software in (runtime, SIMILAR.get(runtime, runtime)):
        found = [
            i
            for i, case in enumerate(timings.cases)
            if case.runtime == software and case.device.name != device
        ]
        if found:
            break
    return found


def _elsewhere(here: Timings, there: Timings) -> list[Predicted]:
    """Rows of one device by their software's factors on others."""
    found = []
    for key, chosen in here.by([case.key for case in here.cases]).items():
        own = here.where(chosen)
        same = [i for i, case in enumerate(there.cases) if case.format == key.split("/")[1]]
        usable = same if len(same) >= runtimes.FEWEST else list(range(len(there.cases)))
        if len(usable) < runtimes.FEWEST:
            factors, edges = runtimes.typical(own.cases[0]), (0.45, 2.2)
        else:
            learnt = there.where(usable)
            factors = runtimes.joint(learnt)
            errors = np.log(latencies_us(learnt.features, factors) / learnt.measured_us)
            low, high = np.quantile(-errors, (0.025, 0.975))
            edges = (float(np.exp(min(1.5 * low, -0.3))), float(np.exp(max(1.5 * high, 0.3))))
        latencies = latencies_us(own.features, factors)
        for case, latency in zip(own.cases, latencies.tolist(), strict=True):
            found.append(_whole(case.row, case, latency, edges, "modelled"))
    return found


def _whole(
    row: Row, case: Whole, latency_us: float, edges: tuple[float, float], source: str
) -> Predicted:
    values = sorted(case.value(latency_us * edge) for edge in edges)
    return Predicted(row, row.measured, values[0], case.value(latency_us), values[1], source)


def _wholes(timings: Timings, errors: Array, predicted_us: Array) -> list[Predicted]:
    found_bands = bands(errors, predicted_us)
    return [
        _whole(case.row, case, latency, _band(found_bands, latency), "interpolated")
        for case, latency in zip(timings.cases, predicted_us.tolist(), strict=True)
    ]


def _band(found: Sequence[Sequence[float]], latency_us: float) -> tuple[float, float]:
    limit = next(band for band in found if latency_us < band[0])
    return limit[1], limit[2]


def _crossed(
    pairs: Sequence[tuple[Row, Timed | Message]], errors: Array, us: Array
) -> list[Predicted]:
    found_bands = bands(errors, us)
    return _scaled(pairs, us, [_band(found_bands, x) for x in us.tolist()], "interpolated")


def _scaled(
    pairs: Sequence[tuple[Row, Timed | Message]],
    latencies: Array,
    edges: Sequence[tuple[float, float]],
    source: str,
) -> list[Predicted]:
    found = []
    for (row, item), latency, (low, high) in zip(pairs, latencies.tolist(), edges, strict=True):
        ratio = latency / item.measured_us
        if metrics.is_rate(row.metric):
            low, high, ratio = 1 / high, 1 / low, 1 / ratio
        value = row.measured * ratio
        found.append(Predicted(row, row.measured, value * low, value, value * high, source))
    return found


def _by(pairs: Sequence[tuple[Row, T]], key: Callable[[T], str]) -> dict[str, list[tuple[Row, T]]]:
    found: dict[str, list[tuple[Row, T]]] = defaultdict(list)
    for row, item in pairs:
        found[key(item)].append((row, item))
    return found


def _lacks(why_not: Callable[[str], str | None], item: Timed) -> bool:
    family, _, format = item.key.partition("/")
    return family != "traffic" and why_not(format) is not None


def _nearest_link(key: str) -> str:
    kind, implementation, fabric = key.split("/")
    return f"{kind}/{'nccl' if implementation != 'nccl' else 'nccl-tests'}/{fabric}"
