"""What software adds to kernels, learnt per software and format, then per device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.tables import weigh
from benchmarks.tables.kin import closest, pooled
from benchmarks.tables.learning import curve
from benchmarks.tables.pricer import FEATURES, PRIOR, latencies_us
from benchmarks.tables.rows import Row
from benchmarks.tables.software import EAGER, EAGER_DISPATCH_US, runtime_of
from benchmarks.tables.wholes import Whole
from planner.cost import memory
from planner.cost.fitted import fitted
from planner.cost.fitting import Learnt, fit_parameters, learn
from planner.spec.fits import Curve

Array = npt.NDArray[np.float64]

RUNTIMES = "runtimes"
"""Name of the fit file."""
DEVICE, MODEL, SOFTWARE = "elsewhere/device", "elsewhere/model", "elsewhere/software"
"""Curves of what predictions are off by where a device, a model or a software is new."""
FEWEST = 6
_KNOTS = (tuple(float(x) for x in range(4, 26, 2)),)
"""log2 of microseconds: what a software's factors leave over changes slowly with size."""
_SHORTEST = 0.1
"""Share of a software's rows that its host bounds, if it bounds any."""
_DEVICE_SPREAD = 0.3
"""Of one device's factors around the software's, natural logarithm."""
_PRIOR_WEIGHT = 1.0
"""Of the priors: more than where a kernel's own rows are fitted, for what sums of kernels miss is
the same in many rows, and a thousand rows of one model do not say which factor is to blame."""
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

    everything = _evenly(timings)
    bound = {**_TYPICAL, "dispatch": _dispatch_us(timings)}
    return fit_parameters(
        model,
        PRIOR,
        timings.measured_us,
        everything,
        also=[bound],
        prior_weight=_PRIOR_WEIGHT,
    )


def _evenly(timings: Timings) -> npt.NDArray[np.int64]:
    """Every row, those of devices with fewer several times: hosts differ from machine to machine,
    and each machine tells of the next as much as any other."""
    labels = [f"{case.runtime} {case.device.name}" for case in timings.cases]
    groups = list(timings.by(labels).values())
    most = max(len(group) for group in groups)
    return np.concatenate([np.resize(np.array(group, np.int64), most) for group in groups])


def _dispatch_us(timings: Timings) -> float:
    """Of each operator, if the host bounds the shortest queries: where the device takes far longer
    than a typical host, no step of a fit shows that the host could be the longer one."""
    operators = np.maximum(timings.features[:, FEATURES.index("operators")], 1.0)
    return float(np.quantile(timings.measured_us / operators, _SHORTEST))


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
        prior_weight=_PRIOR_WEIGHT,
    )


def coordinates(features: Array, whole: Mapping[str, float]) -> Array:
    """[rows, 1]: log2 of the latency by the factors everywhere."""
    at: Array = np.log2(latencies_us(features, whole))[:, None]
    return at


def learn_runtimes(timings: Timings) -> dict[str, Curve]:
    """`software:kind/format` everywhere and `software:kind/format@device`; pools of software."""
    curves = _pools(timings)
    for key, chosen in sorted(timings.by([case.key for case in timings.cases]).items()):
        if len(chosen) < FEWEST:
            continue
        part = timings.where(chosen)
        whole = joint(part)
        curves[key] = _curve(part, whole)
        for device, inside in sorted(part.by([c.device.name for c in part.cases]).items()):
            if len(inside) < FEWEST:
                continue
            own = part.where(inside)
            learnt = on_device(own, whole, shape_groups(own.cases))
            around = extent(own.features, latencies_us(own.features, whole))
            curves[f"{key}@{device}"] = curve(learnt, _sources(own), around)
    return curves


def _pools(timings: Timings) -> dict[str, Curve]:
    """Of all software that runs models the same way, where there is more than one."""
    found = {}
    labels = [pooled(case.key) or "" for case in timings.cases]
    for key, chosen in sorted(timings.by(labels).items()):
        part = timings.where(chosen)
        if key and len({case.runtime for case in part.cases}) > 1:
            found[key] = _curve(part, joint(part))
    return found


def _curve(part: Timings, factors: Mapping[str, float]) -> Curve:
    predicted = latencies_us(part.features, factors)
    errors = np.log(predicted / part.measured_us)
    return curve(Learnt(dict(factors), None, errors, predicted, errors), _sources(part))


def extent(features: Array, latencies_us: Array) -> Array:
    """[rows, 3], log2: how long a query takes, of how many kernels, of what size."""
    kernels = np.maximum(features[:, FEATURES.index("kernels")], 1.0)
    multiplied = features[:, FEATURES.index("product")] + features[:, FEATURES.index("convolution")]
    sizes = np.maximum(multiplied / kernels, 1e-3)
    at: Array = np.log2(np.column_stack([latencies_us, kernels, sizes]))
    return at


def learn_memories(rows: Sequence[Row]) -> dict[str, Curve]:
    """Software -> its curve."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(runtime_of(row), []).append(row)
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
        lambda at, which: memory.total_gb(features[which], at),
        memory.PRIOR,
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


def predict(
    case: Whole, features: Array, curves: Mapping[str, Curve]
) -> tuple[float, tuple[float, float], str]:
    """(microseconds, low and high multiples, source) of a row.

    What waits for other devices is as uncertain as new software: no model that was learnt from is
    spread over several.

    Args:
        features: [FEATURES]
    """
    shared = frozenset(name for name in curves if "@" not in name)
    key = next(closest(case.key, shared), None)
    if key is None:
        latency = float(latencies_us(features[None], typical(case))[0])
        return latency, _strange(curves, SOFTWARE, latency), "typical software"
    whole = fitted(curves[key])
    latencies = latencies_us(features[None], whole.parameters)
    if key != case.key:
        latency = float(latencies[0])
        return latency, _strange(curves, SOFTWARE, latency), whole.source
    own = f"{key}@{case.device.name}"
    if own not in curves:
        latency = float(latencies[0])
        return latency, _strange(curves, DEVICE, latency), whole.source
    found = fitted(curves[own])
    latency = float(latencies_us(features[None], found.parameters)[0])
    if found.lattice is not None:
        latency *= float(np.exp(found.lattice.at(coordinates(features[None], whole.parameters)))[0])
    if case.placement is None and features[FEATURES.index("links")] > 0:
        return latency, _strange(curves, SOFTWARE, latency), found.source
    beyond = curves.get(MODEL)
    found = replace(found, beyond=fitted(beyond).bands if beyond else found.beyond)
    edges = found.edges(np.array([latency]), extent(features[None], latencies))
    low, high = edges[0].tolist()
    return latency, (low, high), found.source


def _strange(curves: Mapping[str, Curve], what: str, latency_us: float) -> tuple[float, float]:
    """Multiples that hold where a device, a model or a software is new."""
    known = curves.get(what)
    return fitted(known).band(latency_us) if known else _BANDS[0][1:]


def _sources(timings: Timings) -> str:
    names = sorted({case.row.source for case in timings.cases})
    return f"fitted on measurements published by {', '.join(names)}"


def typical(case: Whole) -> dict[str, float]:
    """Factors of software nobody measured."""
    if case.runtime in EAGER:
        return {**_TYPICAL, "dispatch": EAGER_DISPATCH_US}
    return dict(_TYPICAL)
