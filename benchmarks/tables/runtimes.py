"""What software adds to kernels, learnt per software and format, then per device."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.tables import weigh
from benchmarks.tables.learning import curve
from benchmarks.tables.pricer import PRIOR, latencies_us
from benchmarks.tables.rows import Row
from benchmarks.tables.software import EAGER, EAGER_DISPATCH_US, SIMILAR
from benchmarks.tables.wholes import Whole
from planner.cost.curves import Fitted, fitted
from planner.cost.fitting import Learnt, fit_parameters, learn
from planner.spec.fits import Curve

Array = npt.NDArray[np.float64]

RUNTIMES = "runtimes"
"""Name of the fit file."""
FEWEST = 6
_KNOTS = (tuple(float(x) for x in range(4, 26, 2)),)
"""log2 of microseconds: what a software's factors leave over changes slowly with size."""
_DEVICE_SPREAD = 0.3
"""Of one device's factors around the software's, natural logarithm."""
_TYPICAL = {name: value for name, (value, _) in PRIOR.items()}
_BANDS = ((float("inf"), 0.45, 2.2),)
"""Interval where the software is unknown."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Rows that time whole models, with what their kernels add up to."""

    cases: tuple[Whole, ...]
    features: Array
    measured_us: Array

    def where(self, chosen: Sequence[int]) -> Timings:
        """Some of them."""
        at = np.array(chosen, dtype=np.int64)
        cases = tuple(self.cases[i] for i in chosen)
        return Timings(cases, self.features[at], self.measured_us[at])

    def by(self, labels: Sequence[str]) -> dict[str, list[int]]:
        """Indices by label."""
        found: dict[str, list[int]] = {}
        for i, label in enumerate(labels):
            found.setdefault(label, []).append(i)
        return found


def joint(timings: Timings) -> dict[str, float]:
    """Factors of one software over all devices."""

    def model(at: Mapping[str, float], which: npt.NDArray[np.int64]) -> Array:
        return latencies_us(timings.features[which], at)

    everything = np.arange(len(timings.cases))
    return fit_parameters(model, PRIOR, timings.measured_us, everything)


def on_device(timings: Timings, whole: Mapping[str, float], groups: Array) -> Learnt:
    """Factors of one software on one device, around its factors everywhere.

    Args:
        groups: rows of one group are left out together.
    """
    prior = {name: (value, _DEVICE_SPREAD) for name, value in whole.items()}
    return learn(
        lambda at, which: latencies_us(timings.features[which], at),
        prior,
        coordinates(timings.features, whole),
        timings.measured_us,
        groups,
        _KNOTS,
    )


def coordinates(features: Array, whole: Mapping[str, float]) -> Array:
    """[rows, 1]: log2 of the latency by the factors everywhere."""
    at: Array = np.log2(latencies_us(features, whole))[:, None]
    return at


def learn_runtimes(timings: Timings) -> dict[str, Curve]:
    """`software/format` everywhere and `software/format@device`."""
    curves: dict[str, Curve] = {}
    for key, chosen in sorted(timings.by([case.key for case in timings.cases]).items()):
        if len(chosen) < FEWEST:
            continue
        part = timings.where(chosen)
        whole = joint(part)
        predicted = latencies_us(part.features, whole)
        errors = np.log(predicted / part.measured_us)
        curves[key] = curve(Learnt(whole, None, errors, predicted), _sources(part))
        for device, inside in sorted(part.by([c.device.name for c in part.cases]).items()):
            if len(inside) < FEWEST:
                continue
            own = part.where(inside)
            learnt = on_device(own, whole, shape_groups(own.cases))
            curves[f"{key}@{device}"] = curve(learnt, _sources(own))
    return curves


def learn_memories(rows: Sequence[Row]) -> dict[str, Curve]:
    """`memory/software`."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(weigh.memory_key(row), []).append(row)
    curves = {}
    for key, part in groups.items():
        if len(part) >= FEWEST:
            source = ", ".join(sorted({row.source for row in part}))
            curves[key] = curve(learn_memory(part), f"fitted on measurements published by {source}")
    return curves


def learn_memory(rows: Sequence[Row]) -> Learnt:
    """Factors of one software's memory."""
    features = weigh.features(rows)
    labels: dict[tuple[str, str], int] = {}
    groups = [labels.setdefault((row.model, row.seq_in), len(labels)) for row in rows]
    return learn(
        lambda at, which: weigh.memory_gb(features[which], at),
        weigh.PRIOR,
        np.zeros((len(rows), 1)),
        np.array([weigh.measured_gb(row) for row in rows]),
        np.array(groups, dtype=np.float64),
        None,
    )


def shape_groups(cases: Sequence[Whole]) -> Array:
    """Equal for rows of one batch and length."""
    labels: dict[tuple[str, ...], int] = {}
    keys = [(c.row.model, c.row.batch, c.row.seq_in, c.row.seq_out) for c in cases]
    return np.array([labels.setdefault(key, len(labels)) for key in keys], dtype=np.float64)


def predict(case: Whole, features: Array, curves: Mapping[str, Curve]) -> tuple[float, Fitted]:
    """Microseconds of a row, and the curve that said so."""
    key = nearest(case, curves)
    if key is None:
        found = Fitted(typical(case), None, _BANDS, False, "typical software")
        return float(latencies_us(features[None], found.parameters)[0]), found
    whole = fitted(curves[key])
    own = f"{key}@{case.device.name}"
    if own not in curves or key != case.key:
        return float(latencies_us(features[None], whole.parameters)[0]), whole
    found = fitted(curves[own])
    latency = latencies_us(features[None], found.parameters)
    if found.lattice is not None:
        latency = latency * np.exp(found.lattice.at(coordinates(features[None], whole.parameters)))
    return float(latency[0]), found


def nearest(case: Whole, curves: Mapping[str, Curve]) -> str | None:
    """The software's curve, or that of its closest version or format."""
    shared = [key for key in curves if "@" not in key]
    if case.key in shared:
        return case.key
    for runtime in (case.runtime, SIMILAR.get(case.runtime, case.runtime)):
        wanted = f"{runtime}/{case.format}"
        same = [key for key in shared if key.split("/")[0] == runtime]
        version = _version_of(wanted)
        same = same or [key for key in shared if version and _version_of(key) == version]
        close = difflib.get_close_matches(wanted, same, n=1, cutoff=0.0)
        if close:
            return close[0]
    return None


def _version_of(key: str) -> str | None:
    """`tensorrt` of `tensorrt-8.6/fp16`; None of software without versions."""
    name, _, version = key.split("/")[0].rpartition("-")
    return name if version[:1].isdigit() else None


def _sources(timings: Timings) -> str:
    names = sorted({case.row.source for case in timings.cases})
    return f"fitted on measurements published by {', '.join(names)}"


def typical(case: Whole) -> dict[str, float]:
    """Factors of software nobody measured."""
    if case.runtime in EAGER:
        return {**_TYPICAL, "dispatch": EAGER_DISPATCH_US}
    return dict(_TYPICAL)
