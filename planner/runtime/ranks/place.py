"""A tensor's memory that never moves: where sessions and collectives find it in every run."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """An address on a board (`board`), and what lies there."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Of the tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def array(self) -> Array:
        """The memory itself, where it is the host's."""
        return array_at(self.address, self.dtype, self.shape)


def array_at(address: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Host memory as an array; whoever allocated it keeps it alive."""
    size = math.prod(shape) * dtype.itemsize
    held = (ctypes.c_uint8 * size).from_address(address)
    found: Array = np.ctypeslib.as_array(held).view(dtype).reshape(shape)
    return found


@dataclass(frozen=True, slots=True)
class Rows:
    """A tensor seen as rows, each of which holds one piece of every rank."""

    count: int
    piece_bytes: int


def rows_of(piece: Place, axis: int) -> Rows:
    """How the rank's slice along an axis lies in the whole: `count` pieces, one a row."""
    count = math.prod(piece.shape[:axis])
    return Rows(count, piece.size_bytes // max(count, 1))
