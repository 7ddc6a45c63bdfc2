"""Knowledge on its way to another chip or another format: what holds it, and how it starts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from planner.spec.fits import Curve, FitFile

DENSE: Mapping[str, tuple[str, ...]] = {"2:4": ("bf16", "fp16")}
"""2:4 format -> dense formats of the same operands, where these are single kernels as well: what is
known of 8-bit products holds their library's own roundings."""


def held(curve: Curve, dense: Curve, chips: int) -> Curve:
    """A curve of 2:4 carried to another chip: what few chips have shown is held by what dense
    products of the same operands take on devices in general, which counts as one more chip.

    How far sparse tensor cores stay below their rate is library and chip (0.64 of it on an A100,
    less than half on an H200), and one chip does not tell them apart.

    Args:
        chips: that know the format.
    """
    share = chips / (chips + 1)
    parameters = {
        name: value**share * dense.parameters.get(name, value) ** (1 - share)
        for name, value in curve.parameters.items()
    }
    return curve.model_copy(update={"parameters": parameters})


def chips_with(files: Iterable[FitFile], names: Sequence[str]) -> int:
    """How many chips were measured with one of these keys."""
    known = (f for f in files if f.units and any(name in f.curves for name in names))
    return len({(file.architecture, file.units) for file in known})


def mean_start_us(curves: Iterable[Curve]) -> float | None:
    """Geometric mean of starts."""
    starts = [math.log(curve.parameters["start"]) for curve in curves]
    return math.exp(sum(starts) / len(starts)) if starts else None
