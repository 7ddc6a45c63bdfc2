"""Memory on a board for arrays of the host that pass through it, kept from one to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.runtime.ranks.board import Board
from planner.runtime.ranks.place import Array, Place, array_at

_LEAST_BYTES = 1 << 16


@dataclass(slots=True)
class Buffers:
    """Device memory for arrays of the host, with page-locked memory beside it; grows as needed."""

    board: Board
    _source: tuple[int, int, int] = (0, 0, 0)
    _target: tuple[int, int, int] = (0, 0, 0)

    def filled(self, value: Array) -> Place:
        """The array on the device, once what is queued is done."""
        self._source = self._grown(self._source, value.nbytes)
        address, staging, _ = self._source
        np.copyto(array_at(staging, value.dtype, value.shape), value)
        self.board.upload(address, staging, value.nbytes)
        return Place(address, value.dtype, value.shape)

    def room(self, size_bytes: int) -> Place:
        """Memory for bytes to come."""
        return self.result((size_bytes,), np.dtype(np.uint8))

    def result(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Place:
        """Memory for a tensor to come."""
        self._target = self._grown(self._target, math.prod(shape) * dtype.itemsize)
        return Place(self._target[0], dtype, shape)

    def read(self, place: Place) -> Array:
        """What came, once all is done."""
        staging = self._target[1]
        self.board.download(staging, place.address, place.size_bytes)
        self.board.finish()
        return array_at(staging, place.dtype, place.shape).copy()

    def _grown(self, held: tuple[int, int, int], size_bytes: int) -> tuple[int, int, int]:
        if size_bytes <= held[2]:
            return held
        size = max(2 * size_bytes, _LEAST_BYTES)
        address = self.board.allocate(size)
        return address, self.board.staging(address, size), size
