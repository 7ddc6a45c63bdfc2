"""Whole models by factors that have not seen their device, their model, or their software."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.tables.kin import closest, pooled
from benchmarks.tables.learning import general_curve
from benchmarks.tables.pricer import latencies_us
from benchmarks.tables.runtimes import (
    DEVICE,
    FEWEST,
    MODEL,
    SOFTWARE,
    Timings,
    joint,
    on_device,
    shape_groups,
    typical,
)
from benchmarks.tables.strangers import Missed, stranger_bands
from benchmarks.tables.wholes import Whole
from planner.spec.fits import Curve

Array = npt.NDArray[np.float64]
Label = Callable[[Whole], str]


def device_label(case: Whole) -> str:
    """The chip: cards with the same one tell on each other."""
    return f"{case.device.architecture} {case.device.units}"


def model_label(case: Whole) -> str:
    """The model by its sizes, whatever it is called."""
    if case.model is None:
        return case.row.model.lower()
    model = case.model
    return f"{model.kind} {model.layers} {model.hidden} {model.ffn}"


def software_label(case: Whole) -> str:
    """The software, whatever its version."""
    return case.runtime.split("-")[0]


def crossed(
    timings: Timings,
    label: Label,
    *,
    only: str | None = None,
    among: Collection[int] | None = None,
    own_device: bool = False,
) -> Array:
    """Latency in microseconds of every row, by rows of other labels alone.

    Args:
        only: the label whose rows are wanted; not a number for others.
        among: rows that are wanted.
        own_device: where other rows of its software and device are left, they speak last.
    """
    found = np.full(len(timings.cases), np.nan)
    labels = [label(case) for case in timings.cases]
    for key, every in timings.by([case.key for case in timings.cases]).items():
        inside = [i for i in every if among is None or i in among]
        wanted = {labels[i] for i in inside if only in (None, labels[i])}
        for left_out in sorted(wanted):
            here = [i for i in inside if labels[i] == left_out]
            there = [i for i, other in enumerate(labels) if other != left_out]
            found[here] = _priced(timings, key, here, there, own_device=own_device)
    return found


def _priced(
    timings: Timings, key: str, here: Sequence[int], there: Sequence[int], *, own_device: bool
) -> Array:
    own = timings.where(here)
    factors = factors_of(timings.where(there), key, own.cases[0])
    latencies = latencies_us(own.features, factors)
    if not own_device:
        return latencies
    for device, chosen in own.by([case.device.name for case in own.cases]).items():
        seen = [
            i
            for i in there
            if timings.cases[i].key == key and timings.cases[i].device.name == device
        ]
        if len(seen) >= FEWEST:
            part = timings.where(seen)
            learnt = on_device(part, factors, shape_groups(part.cases))
            latencies[chosen] = latencies_us(own.features[chosen], learnt.parameters)
    return latencies


def factors_of(timings: Timings, key: str, case: Whole) -> dict[str, float]:
    """Factors of one software in one format, from the closest rows that there are."""
    for chosen in _closest(timings, key):
        if len(chosen) >= FEWEST:
            return joint(timings.where(chosen))
    return typical(case)


def _closest(timings: Timings, key: str) -> Iterator[list[int]]:
    groups = timings.by([case.key for case in timings.cases])
    pools = timings.by([pooled(case.key) or "" for case in timings.cases])
    known = {**pools, **groups}
    return (known[name] for name in closest(key, known.keys()))


def strangers(timings: Timings) -> dict[str, Curve]:
    """Curves of what whole models are off by on a new device, as a new model, in new software."""
    ways: tuple[tuple[str, Label, bool], ...] = (
        (DEVICE, device_label, False),
        (MODEL, model_label, True),
        (SOFTWARE, software_label, False),
    )
    return {name: _strange(timings, label, own) for name, label, own in ways}


def _strange(timings: Timings, label: Label, own_device: bool) -> Curve:
    latencies = crossed(timings, label, own_device=own_device)
    errors = np.log(latencies / timings.measured_us)
    kept = list(range(len(timings.cases))) if label is software_label else _shared(timings, label)
    off = [
        Missed(label(timings.cases[i]), "", errors[i : i + 1], latencies[i : i + 1]) for i in kept
    ]
    source = "rows whose like was left out"
    return general_curve({}, errors[kept], stranger_bands(off), len(kept), source)


def _shared(timings: Timings, label: Label) -> list[int]:
    """Rows of software that was measured under several labels: what it does is known without the
    row's own."""
    groups = timings.by([case.key for case in timings.cases])
    known = [each for each in groups.values() if len({label(timings.cases[i]) for i in each}) > 1]
    return sorted(i for each in known for i in each)
