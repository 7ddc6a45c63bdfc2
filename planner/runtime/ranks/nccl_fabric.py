"""Ranks on GPUs that talk through NCCL: from device memory to device memory on one stream.

Arrays of the host (engines of open shapes, agreements while loading) go the same way through
memory on the device that is kept for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from planner.errors import EnvironmentMismatchError
from planner.runtime.fused.driver import Driver
from planner.runtime.ranks.board import Board, CudaBoard
from planner.runtime.ranks.buffers import Buffers
from planner.runtime.ranks.fabric import JOIN_S, Array, slice_of
from planner.runtime.ranks.heads import WORDS, bytes_of, empty_for, head_of
from planner.runtime.ranks.nccl import ID_BYTES, Nccl
from planner.runtime.ranks.place import Place, rows_of

_POLL_S = 0.01


class NcclFabric:
    """A communicator of all ranks; they meet at a file that holds its identity."""

    def __init__(
        self, rank: int, world: int, meeting: str, *, nccl: Nccl | None = None,
        driver: Driver | None = None,
    ) -> None:  # fmt: skip
        """Raises EnvironmentMismatchError: no NCCL, no GPU, or the ranks do not meet."""
        self.rank = rank
        self._world = world
        self.nccl = nccl or Nccl()
        self.driver = driver or Driver()  # the launcher shows each rank its own GPU only
        self.board: Board = CudaBoard(self.driver)
        identity = _identity(Path(meeting), rank, self.nccl.unique_id)
        self._to = self.nccl.join(identity, rank, world)
        self._groups: list[int] = []
        self._buffers = Buffers(self.board)
        self._talk = NcclTalk(self, self._to)

    def group(self, ranks: tuple[int, ...]) -> NcclGroup:
        """Every rank splits off every group; all of them together need none of their own."""
        if ranks == tuple(range(self._world)):
            return NcclGroup(self, self._to, self.rank, self._world)
        is_member = self.rank in ranks
        position = ranks.index(self.rank) if is_member else 0
        made = self.nccl.split(self._to, is_member, position)
        if made:
            self._groups.append(made)
        return NcclGroup(self, made, position, len(ranks))

    def talk(self) -> NcclTalk:
        """Between places on the device."""
        return self._talk

    def send(self, value: Array | None, to: int) -> None:
        """Type and shape first, then the bytes."""
        head = head_of(value)
        self._pass(self._buffers.filled(bytes_of(head)), to)
        if value is not None:
            self._pass(self._buffers.filled(bytes_of(value)), to)

    def _pass(self, place: Place, to: int) -> None:
        self._talk.send(place, to)
        self.board.finish()

    def receive(self, source: int) -> Array | None:
        """The next one."""
        value = empty_for(self._take(8 * WORDS, source).view(np.int64))
        if value is None:
            return None
        return self._take(value.nbytes, source).view(value.dtype).reshape(value.shape)

    def _take(self, size_bytes: int, source: int) -> Array:
        place = self._buffers.room(size_bytes)
        self._talk.receive(place, source)
        return self._buffers.read(place)

    def through(
        self, value: Array, shape: tuple[int, ...], call: Callable[[Place, Place], None]
    ) -> Array:
        """A collective of an array: up, done, down."""
        source = self._buffers.filled(np.ascontiguousarray(value))
        target = self._buffers.result(shape, value.dtype)
        call(source, target)
        return self._buffers.read(target)

    def close(self) -> None:
        """Leaves the communicators."""
        self.board.finish()
        for each in (*self._groups, self._to):
            self.nccl.leave(each)


def _identity(meeting: Path, rank: int, make: Callable[[], bytes]) -> bytes:
    """The first rank writes it down, as a whole or not at all; the others wait for it."""
    if rank == 0:
        identity = make()
        draft = meeting.with_suffix(".draft")
        draft.write_bytes(identity)
        draft.replace(meeting)
        return identity
    until = time.monotonic() + JOIN_S
    while time.monotonic() < until:
        if meeting.exists():
            found = meeting.read_bytes()
            if len(found) == ID_BYTES:
                return found
        time.sleep(_POLL_S)
    raise EnvironmentMismatchError(f"the ranks do not meet: no identity within {JOIN_S:.0f} s")


class NcclGroup:
    """Some of the ranks."""

    def __init__(self, fabric: NcclFabric, communicator: int, position: int, size: int) -> None:
        self._fabric = fabric
        self.communicator = communicator
        self.position = position
        self.size = size

    def all_reduce(self, value: Array) -> Array:
        """The sum of what the ranks hold."""
        return self._through("all_reduce", None, value, value.shape)

    def all_gather(self, value: Array, axis: int) -> Array:
        """The ranks' slices joined, in their order."""
        return self._through("all_gather", axis, value, _scaled(value.shape, axis, self.size))

    def reduce_scatter(self, value: Array, axis: int) -> Array:
        """The own slice of the sum."""
        shape = slice_of(value, axis, 0, self.size).shape
        return self._through("reduce_scatter", axis, value, shape)

    def split(self, value: Array, axis: int) -> Array:
        """The own slice of what all hold."""
        return slice_of(value, axis, self.position, self.size)

    def _through(
        self, operation: str, axis: int | None, value: Array, shape: tuple[int, ...]
    ) -> Array:
        talk = self._fabric.talk()
        return self._fabric.through(
            value,
            shape,
            lambda source, target: talk.together(self, operation, axis, source, target),
        )


def _scaled(shape: tuple[int, ...], axis: int, factor: int) -> tuple[int, ...]:
    return tuple(size * factor if at == axis else size for at, size in enumerate(shape))


class NcclTalk:
    """What is queued on the fabric's stream."""

    def __init__(self, fabric: NcclFabric, world: int) -> None:
        self.board = fabric.board
        self._nccl = fabric.nccl
        self._world = world
        self._stream = fabric.board.stream or 0
        self._scratch: dict[int, int] = {}
        """Bytes -> address; none is given back, for graphs may hold it."""

    def together(
        self, group: NcclGroup, operation: str, axis: int | None, source: Place, target: Place
    ) -> None:
        """Queues a collective. Between axes other than the first, pieces are moved besides."""
        nccl, to = self._nccl, group.communicator
        if operation == "all_reduce":
            count = math.prod(source.shape)
            nccl.all_reduce(source.address, target.address, count, source.dtype, to, self._stream)
        elif operation == "all_gather":
            joined = self._joined(source, target, axis or 0)
            nccl.all_gather(source.address, joined, source.size_bytes, to, self._stream)
            self._spread_out(joined, source, target, axis or 0, group.size)
        elif operation == "reduce_scatter":
            joined = self._gathered_up(source, target, axis or 0, group.size)
            count = math.prod(target.shape)
            nccl.reduce_scatter(joined, target.address, count, source.dtype, to, self._stream)
        else:
            rows = rows_of(target, axis or 0)
            own = source.address + group.position * rows.piece_bytes
            pitch = group.size * rows.piece_bytes
            self.board.copy_rows(
                target.address, rows.piece_bytes, own, pitch, rows.piece_bytes, rows.count
            )

    def _joined(self, piece: Place, whole: Place, axis: int) -> int:
        """Where pieces come to lie one after the other: the result itself, if it lies so."""
        return whole.address if rows_of(piece, axis).count == 1 else self._room(whole.size_bytes)

    def _spread_out(self, joined: int, piece: Place, whole: Place, axis: int, size: int) -> None:
        if joined == whole.address:
            return
        rows = rows_of(piece, axis)
        width = rows.piece_bytes
        for rank in range(size):
            self.board.copy_rows(
                whole.address + rank * width, size * width,
                joined + rank * piece.size_bytes, width, width, rows.count,
            )  # fmt: skip

    def _gathered_up(self, whole: Place, piece: Place, axis: int, size: int) -> int:
        """The whole with each rank's piece in one run, as NCCL takes it."""
        rows = rows_of(piece, axis)
        if rows.count == 1:
            return whole.address
        joined, width = self._room(whole.size_bytes), rows.piece_bytes
        for rank in range(size):
            self.board.copy_rows(
                joined + rank * piece.size_bytes, width,
                whole.address + rank * width, size * width, width, rows.count,
            )  # fmt: skip
        return joined

    def _room(self, size_bytes: int) -> int:
        """Memory between two copies; the stream's order lets all share it. It doubles, so that ever
        longer tensors of open shapes hold no more than four times the longest."""
        fitting = min((size for size in self._scratch if size >= size_bytes), default=None)
        if fitting is None:
            fitting = max(size_bytes, 2 * max(self._scratch, default=0))
            self._scratch[fitting] = self.board.allocate(fitting)
        return self._scratch[fitting]

    def send(self, place: Place, to: int) -> None:
        """Queued."""
        self._nccl.send(place.address, place.size_bytes, to, self._world, self._stream)

    def receive(self, place: Place, source: int) -> None:
        """Queued."""
        self._nccl.receive(place.address, place.size_bytes, source, self._world, self._stream)
