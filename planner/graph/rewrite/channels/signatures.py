"""Slices of a constant, in a form that is equal where they are."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt


def slices(value: npt.NDArray[Any], axis: int) -> list[bytes]:
    """A digest of each slice along the axis; zeros of both signs are alike."""
    moved = np.moveaxis(value, axis, 0)
    if moved.strides[0] == 0:
        return [_digest(moved[0])] * len(moved)
    return [_digest(one) for one in moved]


def _digest(value: npt.NDArray[Any]) -> bytes:
    return hashlib.blake2b((value + np.float32(0)).tobytes(), digest_size=16).digest()
