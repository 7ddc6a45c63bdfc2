"""Where a rank's tensors lie and in which order work on them is done: a GPU's stream, or the host.

Everything queued on a board is done in the order in which it was queued; only `finish` waits. On
the host, queueing is doing.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any, Protocol

from planner.errors import InfoptError
from planner.runtime.fused.driver import Driver
from planner.runtime.ranks.windows import LEAST_BYTES, Block, can_share

Work = Callable[[], None]


class Board(Protocol):
    """Memory and an order of work."""

    device: str
    """As ONNX Runtime calls it."""
    stream: int | None
    """Handle of the stream that ONNX Runtime is to use."""

    def allocate(self, size_bytes: int) -> int:
        """An address, its memory filled with zeros; held until `close`."""

    def staging(self, address: int, size_bytes: int) -> int:
        """Host memory through which values reach, or leave, memory at an address."""

    def block(self, address: int) -> Block | None:
        """What holds the staging memory at an address, where other processes may be given it."""

    def upload(self, target: int, source: int, size_bytes: int) -> None:
        """From its staging memory."""

    def download(self, target: int, source: int, size_bytes: int) -> None:
        """To its staging memory."""

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, rows: int
    ) -> None:
        """Rows of `width` bytes; pitches are the distances from one row to the next."""

    def finish(self) -> None:
        """Waits until everything queued is done."""

    def capture(self, work: Work) -> Work | None:
        """What `work` queues, to be queued at once from now on; None where that does not go."""

    def close(self) -> None:
        """Gives the memory back."""


class HostBoard:
    """This process's memory."""

    device = "cpu"
    stream: int | None = None

    def __init__(self) -> None:
        self._held: list[Any] = []
        self._blocks: dict[int, Block] = {}

    def allocate(self, size_bytes: int) -> int:
        """Aligned as NumPy and ONNX Runtime like it."""
        if size_bytes >= LEAST_BYTES and can_share():
            return _kept(self._blocks, size_bytes).address
        held = (ctypes.c_uint8 * (size_bytes + _ALIGNMENT))()
        self._held.append(held)
        return -(-ctypes.addressof(held) // _ALIGNMENT) * _ALIGNMENT

    def staging(self, address: int, size_bytes: int) -> int:
        """The memory itself."""
        return address

    def block(self, address: int) -> Block | None:
        """Of all that is large."""
        return self._blocks.get(address)

    def upload(self, target: int, source: int, size_bytes: int) -> None:
        """It is there already."""

    download = upload

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, rows: int
    ) -> None:
        """Row by row."""
        for row in range(rows):
            ctypes.memmove(target + row * target_pitch, source + row * source_pitch, width)

    def finish(self) -> None:
        """Nothing waits."""

    def capture(self, work: Work) -> Work | None:
        """Nothing to be saved here."""
        return None

    def close(self) -> None:
        """Nobody may look at it afterwards."""
        for block in self._blocks.values():
            block.close()
        self._held.clear()
        self._blocks.clear()


def _kept(blocks: dict[int, Block], size_bytes: int) -> Block:
    block = Block(size_bytes)
    blocks[block.address] = block
    return block


_ALIGNMENT = 64
"""Bytes: a cache line, and what ONNX Runtime's own allocator gives."""


class CudaBoard:
    """A GPU and one stream: ONNX Runtime's kernels, collectives and copies in one order."""

    device = "cuda"

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.stream: int | None = int(driver.stream)
        self._held: list[int] = []
        self._pinned: list[int] = []
        self._blocks: dict[int, Block] = {}
        self._graphs: list[Any] = []

    def allocate(self, size_bytes: int) -> int:
        """Raises EnvironmentMismatchError: there is not that much."""
        address = self._driver.allocate(size_bytes)
        self._held.append(address)
        self._driver.fill(address, 0, max(size_bytes, 1))
        return address

    def staging(self, address: int, size_bytes: int) -> int:
        """Page-locked, so that a copy needs nobody's attention."""
        if size_bytes >= LEAST_BYTES and can_share():
            block = _kept(self._blocks, size_bytes)
            self._driver.pin(block.address, block.size_bytes)
            return block.address
        pinned = self._driver.allocate_pinned(size_bytes)
        self._pinned.append(pinned)
        return pinned

    def block(self, address: int) -> Block | None:
        """Of all that is large."""
        return self._blocks.get(address)

    def upload(self, target: int, source: int, size_bytes: int) -> None:
        """Queued."""
        self._driver.upload(target, source, size_bytes)

    def download(self, target: int, source: int, size_bytes: int) -> None:
        """Queued."""
        self._driver.download(target, source, size_bytes)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, rows: int
    ) -> None:
        """Queued."""
        self._driver.copy_rows(target, target_pitch, source, source_pitch, width, rows)

    def finish(self) -> None:
        """Raises InfoptError: a kernel failed; the device's state is lost with it."""
        self._driver.synchronize()

    def capture(self, work: Work) -> Work | None:
        """As a CUDA graph. Kernels that wait for the host cannot be captured."""
        with contextlib.suppress(InfoptError, RuntimeError):
            graph = self._driver.capture(work, is_relaxed=True)
            self._graphs.append(graph)
            return lambda: self._driver.replay(graph)
        return None

    def close(self) -> None:
        """Waits first."""
        self._driver.activate()
        self._driver.synchronize()
        for graph in self._graphs:
            self._driver.release(graph)
        for address in self._held:
            self._driver.free(address)
        for pinned in self._pinned:
            self._driver.free_pinned(pinned)
        for address, block in self._blocks.items():
            self._driver.unpin(address)
            block.close()
        self._graphs, self._held, self._pinned, self._blocks = [], [], [], {}
