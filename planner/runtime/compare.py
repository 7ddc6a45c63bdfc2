"""How far values are from a reference: NMSE where numbers can be close, mismatches where not.

    nmse(reference, value) = Σ (value - reference)² / Σ reference²        in float64

Conventions, so that one number always means the same:
- Integers, booleans and strings are right or wrong: the share of elements that differ.
- NaN and infinities must stand at the same places with the same sign, else the result is infinite;
  they are left out of both sums.
- A reference without power (all zero, or nothing finite): 0 if the value equals it, else infinite.
- Another shape: infinite. Empty arrays of one shape: 0.
- Sequences and maps (as ONNX Runtime returns them): the worst of their parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_EXACT = "biuOUS"


def nmse(reference: Any, value: Any) -> float:
    """Normalised mean squared error of one output; 0 is equal, infinity is incomparable."""
    if isinstance(reference, Mapping | list | tuple):
        return _nmse_of_parts(flatten("", reference), flatten("", value))
    expected, found = np.asarray(reference), np.asarray(value)
    if expected.shape != found.shape:
        return math.inf
    if expected.size == 0:
        return 0.0
    if expected.dtype.kind in _EXACT or found.dtype.kind in _EXACT:
        return float(np.mean(expected != found))
    return _nmse_of_numbers(_wide(expected), _wide(found))


def _wide(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


def _nmse_of_numbers(expected: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return math.inf
    if not finite.all():
        if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
            return math.inf
        expected, found = expected[finite], found[finite]
    peak = float(np.max(np.abs(expected), initial=0.0))
    if peak == 0.0:
        return math.inf if np.any(found) else 0.0
    # Scaled by the peak: squares of large or tiny values would overflow or vanish.
    with np.errstate(over="ignore"):
        noise = float(np.sum(np.abs((found - expected) / peak) ** 2))
    return noise / float(np.sum(np.abs(expected / peak) ** 2))


def _nmse_of_parts(reference: Mapping[str, Any], value: Mapping[str, Any]) -> float:
    if reference.keys() != value.keys():
        return math.inf
    return max((nmse(reference[part], value[part]) for part in reference), default=0.0)


def flatten(name: str, value: Any) -> dict[str, np.ndarray[Any, Any]]:
    """A value of any ONNX type as named arrays: a tensor is itself, under its own name.

    `y: [{0: .1, 1: .9}, {0: .3, 1: .7}]  ->  y/keys: [0, 1], y/values: [[.1, .9], [.3, .7]]`
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        keys = list(value)
        return {
            f"{name}/keys": np.asarray(keys),
            f"{name}/values": np.asarray([value[key] for key in keys]),
        }
    if not isinstance(value, list | tuple):
        return {name: np.asarray(value)}
    if value and all(isinstance(row, Mapping) and row.keys() == value[0].keys() for row in value):
        keys = list(value[0])
        rows = [[row[key] for key in keys] for row in value]
        return {f"{name}/keys": np.asarray(keys), f"{name}/values": np.asarray(rows)}
    return {
        part: array
        for index, item in enumerate(value)
        for part, array in flatten(f"{name}/{index}", item).items()
    }


def nmse_per_output(reference: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, float]:
    """NMSE of every output of the reference; one that is missing is infinitely far away."""
    return {
        name: nmse(expected, values[name]) if name in values else math.inf
        for name, expected in reference.items()
    }


def max_nmse(reference: Mapping[str, Any], values: Mapping[str, Any]) -> float:
    """The worst output's NMSE; 0 where there are no outputs."""
    return max(nmse_per_output(reference, values).values(), default=0.0)
