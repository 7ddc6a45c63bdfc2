"""Learns curves from observations, and keeps what each predicted for what it had not seen."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.tables.hardware import devices
from benchmarks.tables.observations import Message, Timed
from benchmarks.tables.weights import alike, chip
from planner.cost import collective, links
from planner.cost.curves import ANY
from planner.cost.family import FAMILIES, Family
from planner.cost.fitted import in_percent
from planner.cost.fitting import Learnt, bands, fit_parameters, learn
from planner.cost.links import Messages
from planner.cost.machine import Machine
from planner.spec.fits import Curve, FitFile

Array = npt.NDArray[np.float64]

FEWEST = 12
"""Points below which nothing is learnt."""
_FEWEST_FOR_LATTICE = 40
_LINK_KNOTS = (tuple(float(x) for x in range(8, 35)), (1.0, 2.0, 3.0, 4.0, 6.0))
TWINS = {"fp16": "bf16"}
"""Formats of one rate, learnt together for devices in general."""


def columns_of(timed: Sequence[Timed]) -> tuple[Family, Any]:
    """The family of observations with one key, and their works as columns."""
    name, _, format = timed[0].key.partition("/")
    family = FAMILIES[name]
    return family, family.columns([t.work for t in timed], format)


def measured(timed: Sequence[Timed] | Sequence[Message]) -> Array:
    """Microseconds."""
    return np.array([t.measured_us for t in timed])


def learn_kernel(timed: Sequence[Timed], groups: Sequence[Hashable] = ()) -> Learnt:
    """The curve of one device and key.

    Args:
        groups: points of equal ones are left out together; shapes that tell on each other where
            nothing is said.
    """
    family, columns = columns_of(timed)
    machine = Machine.of(devices()[timed[0].device])
    has_lattice = len(timed) >= _FEWEST_FOR_LATTICE
    return learn(
        lambda at, which: family.latency_us(columns.part(which), machine, at),
        family.prior_of(timed[0].key.partition("/")[2]),
        family.coordinates(columns),
        measured(timed),
        _labels(groups or [t.group for t in timed]),
        family.knots if has_lattice else None,
        rough=family.rough,
    )


def learn_link(messages: Sequence[Message]) -> Learnt:
    """The curve of one collective, implementation and fabric."""
    columns = link_columns(messages)
    at = np.log2(np.column_stack([np.maximum(columns.size_bytes, 1.0), columns.ranks]))
    groups = _labels(
        [(m.collective.ranks, round(np.log2(m.collective.size_bytes) * 4)) for m in messages]
    )
    return learn(
        lambda values, which: links.collective_us(columns.part(which), values),
        links.PRIOR,
        at,
        measured(messages),
        groups,
        _LINK_KNOTS if len(messages) >= _FEWEST_FOR_LATTICE else None,
        rough=(1,),
    )


def link_extent(messages: Sequence[Message]) -> Array:
    """[points, coordinates] of what was measured."""
    return collective.extent(link_columns(messages))


def link_columns(messages: Sequence[Message]) -> Messages:
    """Collectives of one kind as columns."""
    rows = [(m.collective.size_bytes, m.collective.ranks, m.link) for m in messages]
    kind, implementation, fabric = messages[0].key.split("/")
    return Messages(kind, *np.array(rows, dtype=np.float64).T, implementation, fabric)


def general(groups: Mapping[str, Sequence[Timed]]) -> dict[str, float]:
    """Parameters for devices in general.

    Args:
        groups: observations by device and format, all of one family and class of formats.
    """
    timed = list(groups.values())
    points = [len(each) for each in timed]
    counts = alike([chip(devices()[each[0].device]) for each in timed], points)
    return _together([_sample(each, n) for each, n in zip(timed, counts.tolist(), strict=True)])


def averaged(files: Sequence[FitFile], general: FitFile | None) -> FitFile:
    """Curves of devices in general as the geometric mean of these devices' parameters.

    Args:
        general: what ships for devices in general: its intervals are those of leaving devices out.
    """
    groups: dict[str, list[tuple[Hashable, Curve]]] = {}
    for file in files:
        for key, one in ((k, c) for k, c in file.curves.items() if "@" not in k):
            family, _, format = key.partition("/")
            for name in {format, TWINS.get(format, format), *_twins_of(format)}:
                groups.setdefault(f"{family}/{name}", []).append((chip(file), one))
    curves = {}
    for key, pairs in groups.items():
        chips, found = zip(*pairs, strict=True)
        weights = alike(chips, [c.points for c in found])
        weights /= weights.sum()
        logs = {name: np.log([c.parameters[name] for c in found]) for name in found[0].parameters}
        known = general.curves.get(key) if general else None
        curves[key] = Curve(
            source="average over devices",
            points=sum(c.points for c in found),
            median_error=0.0,
            p90_error=0.0,
            parameters={name: float(np.exp(weights @ values)) for name, values in logs.items()},
            bands=known.bands if known else ((1e12, 0.6, 1.7),),
        )
    return FitFile(device=ANY, curves=curves)


def _twins_of(format: str) -> set[str]:
    return {name for name, other in TWINS.items() if other == format}


def extent_of(timed: Sequence[Timed]) -> Array:
    """[points, coordinates] of what was measured."""
    family, columns = columns_of(timed)
    return family.extent(columns)


def curve(learnt: Learnt, source: str, extent: Array | None = None) -> Curve:
    """The curve as it stands in a file.

    Args:
        extent: [points, coordinates] of what was measured, log2.
    """
    lattice = learnt.lattice
    return Curve(
        source=source,
        points=len(learnt.errors),
        **_errors(learnt.errors),
        parameters=_rounded(learnt.parameters),
        bands=_bands(learnt.errors, learnt.predicted_us),
        covers=() if extent is None else _covers(extent),
        beyond=() if extent is None else _bands(learnt.bare_errors, learnt.predicted_us),
        knots=lattice.knots if lattice else (),
        values=in_percent(lattice) if lattice else (),
    )


def general_curve(
    parameters: Mapping[str, float],
    errors: Array,
    intervals: Sequence[Sequence[float]],
    points: int,
    source: str,
) -> Curve:
    """The curve of devices in general.

    Args:
        errors: log(predicted / measured) on devices that had been left out.
        intervals: what holds on devices nobody has measured.
    """
    return Curve(
        source=source,
        points=points,
        **_errors(errors),
        parameters=_rounded(parameters),
        bands=rounded_bands(intervals),
    )


def _sample(timed: Sequence[Timed], count: float) -> Sequence[Timed]:
    wanted = max(1, round(count))
    if len(timed) <= wanted:
        return timed
    chosen = np.random.default_rng(0).choice(len(timed), wanted, replace=False)
    return [timed[i] for i in np.sort(chosen)]


def _together(
    groups: Sequence[Sequence[Timed]], start: Mapping[str, float] | None = None
) -> dict[str, float]:
    """One set of parameters for several devices."""
    parts = [(*columns_of(timed), Machine.of(devices()[timed[0].device])) for timed in groups]
    family = parts[0][0]
    prior = family.prior_of(groups[0][0].key.partition("/")[2])
    times = np.concatenate([measured(timed) for timed in groups])

    def model(at: Mapping[str, float], which: npt.NDArray[np.int64]) -> Array:
        every = [family.latency_us(columns, machine, at) for _, columns, machine in parts]
        return np.concatenate(every)[which]

    return fit_parameters(model, prior, times, np.arange(len(times)), start=start)


def _labels(groups: Sequence[Hashable]) -> Array:
    known = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    return np.array([known[group] for group in groups], dtype=np.float64)


def _errors(errors: Array) -> dict[str, Any]:
    relative = np.abs(np.expm1(errors))
    return {
        "median_error": round(float(np.median(relative)), 4),
        "p90_error": round(float(np.quantile(relative, 0.9)), 4),
    }


def _covers(extent: Array) -> tuple[tuple[float, ...], ...]:
    ends = zip(extent.min(axis=0).tolist(), extent.max(axis=0).tolist(), strict=True)
    return tuple((round(low, 3), round(high, 3)) for low, high in ends)


def _bands(errors: Array, predicted_us: Array) -> tuple[tuple[float, float, float], ...]:
    return rounded_bands(bands(errors, predicted_us))


def rounded_bands(found: Sequence[Sequence[float]]) -> tuple[tuple[float, float, float], ...]:
    """As they stand in a file."""
    return tuple((min(limit, 1e12), round(low, 4), round(high, 4)) for limit, low, high in found)


def _rounded(parameters: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in parameters.items()}
