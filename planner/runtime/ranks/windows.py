"""Results that the driver reads where a rank's device left them, instead of through a socket.

A rank's staging memory is a file in memory; its descriptor goes to the driver once, at the start.
An answer then says only in which window which array lies. The driver copies it out and says so, and
the rank writes there again only after that.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.runtime.ranks.place import Array

LEAST_BYTES = 1 << 16
"""Smaller arrays are as fast through the socket, and need no word of thanks."""
MOST = 64
"""Descriptors of one message; Linux passes up to 253."""
TAKEN = "taken"
"""The driver's word that it has copied what an answer showed."""


class Block:
    """Memory that another process can be given."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = max(size_bytes, 1)
        self.descriptor = os.memfd_create("infopt-rank")
        os.ftruncate(self.descriptor, self.size_bytes)
        self._map = mmap.mmap(self.descriptor, self.size_bytes)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def close(self) -> None:
        """Gives the memory back; whoever else was given it keeps it."""
        os.close(self.descriptor)
        self._map.close()


def can_share() -> bool:
    """Whether this system has files in memory."""
    return hasattr(os, "memfd_create")


@dataclass(frozen=True, slots=True)
class Shown:
    """An array in a window."""

    window: int
    dtype: str
    shape: tuple[int, ...]


class Shop:
    """A rank's side: the windows it has, by the address of their memory."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        shown = list(blocks)[:MOST]
        self.descriptors = [block.descriptor for block in shown]
        self._numbers = {block.address: number for number, block in enumerate(shown)}

    def show(self, values: Sequence[Any]) -> tuple[list[Any], bool]:
        """The values as they are told, and whether the driver must say when it has taken them."""
        told = [self._told(value) for value in values]
        return told, any(isinstance(value, Shown) for value in told)

    def _told(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        number = self._numbers.get(value.ctypes.data)
        if number is None:
            return value
        return Shown(number, value.dtype.name, value.shape)

    def open(self, connection: socket.socket) -> None:
        """Hands the descriptors over."""
        if self.descriptors:
            socket.send_fds(connection, [b"w"], self.descriptors)


class Street:
    """The driver's side of one rank's windows."""

    def __init__(self, connection: socket.socket, count: int) -> None:
        self._windows: list[mmap.mmap] = []
        if not count:
            return
        _, descriptors, _, _ = socket.recv_fds(connection, 1, count)
        for each in descriptors:
            self._windows.append(mmap.mmap(each, 0, access=mmap.ACCESS_READ))
            os.close(each)

    def taken(self, values: Sequence[Any]) -> tuple[list[Any], bool]:
        """The arrays themselves, copied, and whether any was shown."""
        found = [self._taken(value) if isinstance(value, Shown) else value for value in values]
        return found, any(isinstance(value, Shown) for value in values)

    def _taken(self, shown: Shown) -> Array:
        dtype = np.dtype(shown.dtype)
        count = int(np.prod(shown.shape, dtype=np.int64))
        seen: Array = np.frombuffer(self._windows[shown.window], dtype, count)
        return seen.reshape(shown.shape).copy()
