"""Powers of two that channels are divided by, as plans keep them: a letter a channel.

    m: 1    n: 2    o: 4    l: 1/2    ...    a: 2**-12    y: 2**12

Powers of two, because dividing activations by them and multiplying weights with them changes no bit
of any product in floating point: what is moved before anything is rounded is moved exactly.
"""

from __future__ import annotations

import numpy as np

from planner.compress.base import Array
from planner.errors import DataError

MOST = 12
"""Largest exponent either way: what lies further from its neighbours is below every int8 step."""
_ZERO = ord("m")


def spelt(shifts: Array) -> str:
    """Exponents of two as text; those beyond the largest are cut to it."""
    cut = np.clip(shifts, -MOST, MOST).astype(np.int64) + _ZERO
    return cut.astype(np.uint8).tobytes().decode("ascii")


def read(text: str) -> Array:
    """The exponents of a text.

    Raises:
        DataError: it has other letters.
    """
    shifts = np.array([ord(letter) - _ZERO for letter in text], dtype=np.int32)
    if shifts.size and np.abs(shifts).max() > MOST:
        raise DataError(
            f"channels are divided by powers of two, a letter each from a to y, not {text[:20]!r}",
            fix="plan again",
        )
    return shifts


def divided(value: Array, shifts: Array) -> Array:
    """value / 2**shifts along the last axis; axes of one element are spread."""
    return np.asarray(value * _powers(-shifts))


def multiplied(weight: Array, shifts: Array) -> Array:
    """weight * 2**shifts along the last axis but one."""
    return np.asarray(weight * _powers(shifts)[:, None])


def _powers(exponents: Array) -> Array:
    return np.ldexp(np.float32(1), exponents)
