"""A file of weights, mapped: its bytes are in memory only between `fetch` and `release`.

Nothing is copied. Pages come from the page cache, or from the disk where they are not in it;
letting go drops them from this process, and the kernel may reuse what it likes.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import VerificationError
from planner.runtime import dtypes
from planner.spec.manifest import StreamedTensor

Array = np.ndarray[Any, Any]

_WILL_NEED, _DONT_NEED, _POPULATE_READ = 3, 4, 22
"""Advice to madvise(2); the last since Linux 5.14."""
_REBUILD = "build the engine again: infopt deploy plan.json"


class Mapped:
    """The tensors of one file; views, so that nothing outlives `close` but what was copied."""

    def __init__(self, path: Path, tensors: tuple[StreamedTensor, ...]) -> None:
        """Raises VerificationError: the file is missing, unreadable or too short."""
        self.path = path
        self.size_bytes = max(end_of(tensor) for tensor in tensors)
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise VerificationError(
                f"the weights cannot be mapped: {error}", where=str(path), fix=_REBUILD
            ) from None
        if len(self._map) < self.size_bytes:
            raise self._too_short()
        self._bytes = np.frombuffer(self._map, np.uint8)
        self.arrays = {tensor.name: self._view(tensor) for tensor in tensors}
        self._fetched = [_span(self._bytes, t) for t in tensors if not t.is_table]

    def check(self) -> None:
        """Whether the file is as long as ever: reading what was cut off would end the process.

        A microsecond. What happens between this and the last read stays possible, as with every
        mapped file.

        Raises:
            VerificationError: it is shorter.
        """
        if self._map.size() < self.size_bytes:
            raise self._too_short()

    def fetch(self) -> None:
        """Brings every page; returns when they are there.

        Raises:
            VerificationError: the file is shorter than it was, or the disk fails.
        """
        self.check()
        for span in self._fetched:
            _advise(span, _WILL_NEED)
        for span in self._fetched:
            self._populate(span)

    def release(self) -> None:
        """Drops every page; a later read would bring it again."""
        _advise(self._bytes, _DONT_NEED)

    def _populate(self, span: Array) -> None:
        fault = _advise(span, _POPULATE_READ)
        if fault in (errno.EFAULT, errno.EIO):
            raise self._too_short()
        if fault:  # an older kernel: one byte of each page does the same, a page at a time
            int(np.add.reduce(span[:: mmap.PAGESIZE], dtype=np.int64))

    def _view(self, tensor: StreamedTensor) -> Array:
        dtype = dtypes.numpy_dtype(tensor.dtype)
        view: Array = _span(self._bytes, tensor).view(dtype).reshape(tensor.shape)
        return view

    def _too_short(self) -> VerificationError:
        return VerificationError(
            f"the weights cannot be read: {self.size_bytes} bytes were built",
            where=str(self.path),
            fix=_REBUILD,
        )


def size_of(tensor: StreamedTensor) -> int:
    """Bytes of one tensor."""
    count = int(np.prod(tensor.shape, dtype=np.int64))
    return count * dtypes.numpy_dtype(tensor.dtype).itemsize


def _span(raw: Array, tensor: StreamedTensor) -> Array:
    """The bytes of one tensor."""
    return raw[tensor.offset : end_of(tensor)]


def end_of(tensor: StreamedTensor) -> int:
    """The first byte behind it."""
    return tensor.offset + size_of(tensor)


def _advise(view: Array, advice: int) -> int:
    """0, or the error's number. Through C: Python's own call keeps the interpreter locked."""
    call = getattr(_LIBC, "madvise", None)
    if call is None:
        return errno.ENOSYS
    address, size = ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(view.nbytes)
    return ctypes.get_errno() if call(address, size, advice) else 0


_LIBC = ctypes.CDLL(None, use_errno=True)
