"""Intervals where a device, a format, a fabric or a software is new: what leaving others out shows.

Rows of one chip are wrong together, so what counts is how many chips (or formats, or fabrics) were
left out and not how many rows; and only mistakes of the same kind tell: knowledge that was carried
from another format misses by more than knowledge of the same format from another chip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.tables.learning import FEWEST, TWINS
from planner.cost.curves import KIN
from planner.cost.family import PLAIN
from planner.cost.fitted import Fitted
from planner.cost.fitting import bands

Array = npt.NDArray[np.float64]

_FEW, _FEWER = 0.5, 2.0
"""Intervals learnt from one chip are so much wider, in logarithm, half as much from two, and on;
and so much from one format or one fabric: of these fewer were left out, and they differ more."""
_PER_UNIT = 400
"""Rows of each unit that intervals are learnt from."""
_FEWEST_FORMATS = 3
"""Of one key that tell what carrying knowledge from format to format costs; else those alike do."""


@dataclass(frozen=True, slots=True)
class Missed:
    """What predictions of one chip's rows were off by, made without anything measured on it."""

    chip: str
    key: str
    errors: Array
    """log(predicted / measured)"""
    predicted_us: Array
    reach: str = ""
    """As of the curve that was used."""
    edges: list[list[float]] = field(default_factory=list)
    """Low and high multiples that the library itself gives them."""
    fit: Fitted | None = None
    """What made them."""

    @property
    def unit(self) -> tuple[str, str]:
        """Equal where mistakes have one cause: the chip, or the chip and the format."""
        return self.chip, self.key if self.reach == KIN else ""


def class_of(key: str) -> str:
    """Key of a curve with formats of one rate as one."""
    family, _, format = key.partition("/")
    return f"{family}/{TWINS.get(format, format)}"


def relatives(known: Sequence[Missed], key: str, reach: str, chip: str = "") -> list[Missed]:
    """Mistakes that tell how far off a key is where knowledge of this reach is all there is: of
    this key, or of its family in like formats, or of its family, or all.

    Args:
        chip: whose own mistakes are not to be known.
    """
    others = [m for m in known if m.chip != chip]
    alike = [m for m in others if m.reach == reach]
    family, _, format = class_of(key).partition("/")
    kin = [m for m in alike if m.key.partition("/")[0] == family]
    groups = (
        [m for m in kin if class_of(m.key) == class_of(key)],
        [m for m in kin if (m.key.partition("/")[2] in PLAIN) == (format in PLAIN)],
        kin,
        [m for m in others if m.key.partition("/")[0] == family],
        alike,
    )
    fewest = _FEWEST_FORMATS if reach == KIN else 1
    return next((group for group in groups if _is_enough(group, fewest)), others)


def _is_enough(group: Sequence[Missed], fewest: int) -> bool:
    rows = sum(len(one.errors) for one in group)
    return rows >= FEWEST and len({one.unit for one in group}) >= fewest


def stranger_bands(known: Sequence[Missed]) -> list[list[float]]:
    """[up to microseconds, low, high] multiples that hold on a chip nobody has measured.

    Units count by their rows up to a limit; the fewer there were, the less is known of the next;
    and where one was slower than predicted the next may be faster: errors count both ways."""
    errors, predicted, units = _both_ways(known)
    few = _FEWER if any(one.reach == KIN for one in known) else _FEW
    return _widened(bands(errors, predicted), 1 + few / units)


def fabric_bands(known: Sequence[Missed]) -> list[list[float]]:
    """The same on a fabric nobody has measured. What a fabric really carries is not known from
    short messages, nor how it starts from long ones, so that all lengths have one interval."""
    errors, _, units = _both_ways(known)
    return _widened(bands(errors, np.full(len(errors), np.inf))[-1:], 1 + _FEWER / units)


def _widened(found: Sequence[Sequence[float]], power: float) -> list[list[float]]:
    return [[limit, low**power, high**power] for limit, low, high in found]


def _both_ways(known: Sequence[Missed]) -> tuple[Array, Array, float]:
    """Errors and their opposites; latencies; how many equal units they are worth (Kish 1965)."""
    rng = np.random.default_rng(0)
    units: dict[tuple[str, str], list[Missed]] = {}
    for one in known:
        units.setdefault(one.unit, []).append(one)
    errors, predicted, counts = [], [], []
    for mine in units.values():
        off = np.concatenate([one.errors for one in mine])
        us = np.concatenate([one.predicted_us for one in mine])
        chosen = rng.choice(len(off), min(len(off), _PER_UNIT), replace=False)
        errors += [off[chosen], -off[chosen]]
        predicted += [us[chosen], us[chosen]]
        counts.append(len(chosen))
    weights = np.array(counts, dtype=np.float64)
    worth = float(weights.sum() ** 2 / (weights**2).sum())
    return np.concatenate(errors), np.concatenate(predicted), worth
