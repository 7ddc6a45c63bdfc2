"""Predicts every row by fits that have not seen its shape, its chip, or its model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.tables import crossing, metrics, runtimes
from benchmarks.tables.elsewhere import (
    as_any,
    chip_of,
    fabric_missed,
    is_far,
    missed,
    missed_formats,
    missed_of,
    without,
)
from benchmarks.tables.learning import FEWEST, learn_kernel, learn_link
from benchmarks.tables.observations import Message, Timed
from benchmarks.tables.rows import Row
from benchmarks.tables.runtimes import Timings
from benchmarks.tables.scores import Predicted
from benchmarks.tables.software import runtime_of
from benchmarks.tables.strangers import fabric_bands, relatives, stranger_bands
from benchmarks.tables.study import Study, by, scaled, whole
from benchmarks.tables.unseen import Unseen, banded, unseen
from planner.cost import network
from planner.cost.curves import FLOW_KIN, LINKS
from planner.cost.fitted import with_starts
from planner.cost.fitting import Learnt, bands
from planner.spec.fits import FitFile

Array = npt.NDArray[np.float64]
T = TypeVar("T", Timed, Message)
Band = Sequence[Sequence[float]]


def unseen_shapes(study: Study) -> list[Predicted]:
    """By fits of the same tables that left each row's shape out."""
    found = []
    for group in by(study.rows.kernels, lambda t: f"{t.device} {t.key}").values():
        for part, wanted in map(partial(_with_kin, study), _parts(group)):
            learnt = learn_kernel([item for _, item in part])
            found += _crossed(part, learnt, _kernel_edges(study, part, learnt), wanted)
    for messages in by(study.rows.messages, lambda m: m.key).values():
        for some, chosen in _parts(messages):
            link = learn_link([item for _, item in some])
            found += _crossed(some, link, _own_edges(link), chosen)
    found += _unseen_memories(study)
    timings, _ = study.timings()
    for chosen in timings.by([case.key for case in timings.cases]).values():
        if len(chosen) < runtimes.FEWEST:
            continue
        part = timings.where(chosen)
        joint = runtimes.joint(part)
        for inside in part.by([case.device.name for case in part.cases]).values():
            own = part.where(inside)
            learnt = runtimes.on_device(own, joint, runtimes.shape_groups(own.cases))
            found += _wholes(own, learnt.predicted_us, bands(learnt.errors, learnt.predicted_us))
    return found


def unseen_devices(
    study: Study, files: Sequence[FitFile], measured_here: Sequence[Timed] = ()
) -> list[Predicted]:
    """By fits of other chips; intervals by what other chips' predictions were off by.

    Args:
        measured_here: kernels that this project timed itself; they tell of mistakes too.
    """
    libraries, found = without(files), []
    groups = list(by(study.rows.kernels, lambda t: f"{t.device} {t.key} {t.source}").values())
    off = [
        missed_of([item for _, item in g], libraries(g[0][1].device), g[0][1].source)
        for g in groups
    ]
    known = [one for one in off if one is not None]
    known += missed_formats([item for _, item in study.rows.kernels], files)
    known += missed(measured_here, files)
    for group, own in zip(groups, off, strict=True):
        if own is None:
            continue
        others = relatives(known, own.key, own.reach, own.chip)
        edges = _edges(stranger_bands(others), own.predicted_us) if others else own.edges
        if own.fit is not None:
            edges = own.fit.with_any_start(np.array(edges), own.predicted_us).tolist()
        found += scaled(group, own.predicted_us, edges, "modelled")
    return found + _unseen_fabrics(study, files) + _unseen_device_wholes(study, files)


def _unseen_fabrics(study: Study, files: Sequence[FitFile]) -> list[Predicted]:
    """Collectives by what other fabrics have taught."""
    curves = {name: c for file in files if file.device == LINKS for name, c in file.curves.items()}
    groups = list(by(study.rows.messages, lambda m: f"{m.key} {m.source}").values())
    off = [fabric_missed([m for _, m in group], curves, group[0][1].source) for group in groups]
    as_strangers = [
        fabric_missed(as_any([m for _, m in group]), curves, group[0][1].source) for group in groups
    ]
    known = [one for one in as_strangers if one is not None]
    found = []
    for group, own in zip(groups, off, strict=True):
        if own is None:
            continue
        others = [one for one in known if one.chip != own.chip] or known
        is_network = is_far(own.key)
        edges = _edges(fabric_bands(others), own.predicted_us)
        edges = [network.BAND] * len(group) if is_network else edges
        found += scaled(group, own.predicted_us, edges, "modelled")
    return found


def _unseen_device_wholes(study: Study, files: Sequence[FitFile]) -> list[Predicted]:
    libraries = without(files)
    found: list[Unseen] = []
    for name in sorted({case.device.name for _, case in study.rows.wholes}):
        timings, _ = Study(study.rows, libraries(name), {}).timings()
        latencies = crossing.crossed(timings, crossing.device_label, only=chip_of(name))
        here = [i for i, case in enumerate(timings.cases) if case.device.name == name]
        found += unseen(timings, latencies, crossing.device_label, here)
    return banded(found)


def unseen_models(study: Study) -> list[Predicted]:
    """By fits that left out every row of the row's model, on whatever device; kernels of no model
    tell on those of every one, of their own source first."""
    found = []
    for group in by(study.rows.kernels, lambda t: f"{t.device} {t.key}").values():
        if not any(model_name(row) for row, _ in group):
            continue
        for part, wanted in map(partial(_with_kin, study), _parts(group)):
            labels = [model_name(row) for row, _ in part]
            named = [i for i in wanted if labels[i]]
            if named and len(set(labels)) > 1:
                learnt = learn_kernel([item for _, item in part], labels)
                found += _crossed(part, learnt, _kernel_edges(study, part, learnt), named)
    timings, _ = study.timings()
    latencies = crossing.crossed(timings, crossing.model_label, own_device=True)
    every = range(len(timings.cases))
    return found + banded(unseen(timings, latencies, crossing.model_label, every))


def model_name(row: Row) -> str:
    """The model whose layer a kernel is from; empty where the row names none."""
    if ":" in row.model:
        return row.model.split(":")[0].strip().lower()
    words = [word for word in row.model.split()[1:] if "=" not in word]
    return " ".join(words).lower()


def _unseen_memories(study: Study) -> list[Predicted]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in study.rows.memories:
        groups[runtime_of(row)].append(row)
    found = []
    for rows in (group for group in groups.values() if len(group) >= runtimes.FEWEST):
        learnt = runtimes.learn_memory(rows)
        _, low, high = bands(learnt.errors, learnt.predicted_us)[-1]
        for row, gb in zip(rows, learnt.predicted_us.tolist(), strict=True):
            value = gb / metrics.size_scale(row.metric)
            values = (value * low, value, value * high)
            found.append(Predicted(row, row.measured, *values, "interpolated"))
    return found


def _wholes(timings: Timings, predicted_us: Array, edges: Band) -> list[Predicted]:
    return [
        whole(case.row, case, latency, _band(edges, latency), "interpolated")
        for case, latency in zip(timings.cases, predicted_us.tolist(), strict=True)
    ]


def _band(found: Band, latency_us: float) -> tuple[float, float]:
    limit = next(band for band in found if latency_us < band[0])
    return limit[1], limit[2]


def _edges(found: Band, latencies_us: Array) -> list[tuple[float, float]]:
    return [_band(found, each) for each in latencies_us.tolist()]


def _kernel_edges(study: Study, pairs: Sequence[tuple[Row, Timed]], learnt: Learnt) -> Array:
    """The same of kernels: those of sources with few among others may start as any source's do."""
    edges, starts_us = _own_edges(learnt), study.library.starts_us
    counts = Counter(item.source for _, item in pairs)
    is_strange = np.array([counts[item.source] < FEWEST for _, item in pairs])
    if starts_us is None:
        return edges
    wider = with_starts(edges, learnt.predicted_us, learnt.parameters["start"], starts_us)
    return np.where(is_strange[:, None], wider, edges)


def _own_edges(learnt: Learnt) -> Array:
    """Low and high multiples [points, 2] by the errors of all points."""
    found = bands(learnt.errors, learnt.predicted_us)
    return np.array(_edges(found, learnt.predicted_us)).reshape(-1, 2)


def _crossed(
    pairs: Sequence[tuple[Row, T]], learnt: Learnt, edges: Array, wanted: Sequence[int]
) -> list[Predicted]:
    at = list(wanted)
    some, latencies = [pairs[i] for i in at], learnt.predicted_us[at]
    return scaled(some, latencies, edges[at].tolist(), "interpolated")


def _with_kin(
    study: Study, chosen: tuple[Sequence[tuple[Row, Timed]], list[int]]
) -> tuple[Sequence[tuple[Row, Timed]], list[int]]:
    """The same; of a flow that is known in one width only, with the flow that stands in for it."""
    pairs, wanted = chosen
    item = pairs[0][1]
    names = [name for each in FLOW_KIN.get(item.key.partition("/")[2], ()) for name in each]
    if not names or len({other.group for _, other in pairs}) > 1:
        return chosen
    kin = [
        (row, replace(other, key=item.key))
        for row, other in study.rows.kernels
        if (other.device, other.source) == (item.device, item.source)
        and other.key.partition("/")[2] in names
    ]
    return [*pairs, *kin], wanted


def _parts(pairs: Sequence[tuple[Row, T]]) -> Iterator[tuple[Sequence[tuple[Row, T]], list[int]]]:
    """Rows to learn from, and which of them to predict: each source's own, and with all together
    those of sources with few."""
    sources = by(pairs, lambda item: item.source)
    large = {name for name, part in sources.items() if len(part) >= FEWEST}
    for name in sorted(large):
        yield sources[name], list(range(len(sources[name])))
    rest = [i for i, (_, item) in enumerate(pairs) if item.source not in large]
    if rest and len(pairs) >= FEWEST:
        yield pairs, rest
