"""Whole models by factors that have not seen their model or device, with intervals from the others.

Where a software was measured with one model (on one device) only, leaving it out leaves nothing of
the software: its rows are foretold as those of new software are, and so is how far off they may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.tables import crossing
from benchmarks.tables.runtimes import FEWEST, Timings
from benchmarks.tables.scores import Predicted
from benchmarks.tables.strangers import Missed, stranger_bands
from benchmarks.tables.study import whole
from benchmarks.tables.wholes import Whole

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unseen:
    """One row that was predicted without its like."""

    case: Whole
    label: str
    """Of what was left out."""
    latency_us: float
    is_known: bool
    """Whether its software is, from enough rows of other labels."""
    error: float
    """log(predicted / measured)"""
    as_new: float
    """The same error where its software is left out as well."""


def unseen(
    timings: Timings, latencies_us: Array, label: crossing.Label, wanted: Collection[int]
) -> list[Unseen]:
    """Some rows of all that there are, predicted by the others."""
    among, labels = frozenset(wanted), [label(case) for case in timings.cases]
    known = _told_by_others(timings, labels)
    as_new = crossing.crossed(timings, crossing.software_label, among=among)
    errors, strange = (np.log(us / timings.measured_us).tolist() for us in (latencies_us, as_new))
    return [
        Unseen(
            timings.cases[i],
            labels[i],
            float(latencies_us[i]),
            i in known,
            errors[i],
            strange[i],
        )
        for i in wanted
    ]


def _told_by_others(timings: Timings, labels: Sequence[str]) -> set[int]:
    """Rows of whose software enough are left without those of their label."""
    known: set[int] = set()
    for inside in timings.by([case.key for case in timings.cases]).values():
        counts = Counter(labels[i] for i in inside)
        known.update(i for i in inside if len(inside) - counts[labels[i]] >= FEWEST)
    return known


def banded(rows: Sequence[Unseen]) -> list[Predicted]:
    """Intervals of each label by the errors of all others, of one kind: those whose software is
    known, or all as if theirs were not."""
    found = []
    for label in sorted({row.label for row in rows}):
        others = [row for row in rows if row.label != label] or list(rows)
        for is_known in (True, False):
            chosen = [row for row in rows if (row.label, row.is_known) == (label, is_known)]
            bands = _bands(others, is_known=is_known) if chosen else []
            for row in chosen:
                us = row.latency_us
                _, low, high = next(band for band in bands if us < band[0])
                found.append(whole(row.case.row, row.case, us, (low, high), "modelled"))
    return found


def _bands(others: Sequence[Unseen], *, is_known: bool) -> list[list[float]]:
    known = [_missed(row, row.error) for row in others if row.is_known and is_known]
    return stranger_bands(known or [_missed(row, row.as_new) for row in others])


def _missed(row: Unseen, error: float) -> Missed:
    us = row.latency_us * np.exp(error - row.error)
    return Missed(row.label, "", np.array([error]), np.array([us]))
