"""A stand-in for NCCL between threads: ranks meet at each call, and add in host memory."""

from __future__ import annotations

import ctypes
import itertools
import queue
import threading
from collections import defaultdict
from typing import Any

import numpy as np

from planner.runtime.ranks.place import array_at

_PATIENCE_S = 20.0


class Wire:
    """What the ranks share."""

    def __init__(self) -> None:
        self.members: dict[int, tuple[int, ...]] = {}
        self.lock = threading.Lock()
        self.rooms: dict[tuple[int, int], dict[int, Any]] = defaultdict(dict)
        self.full = threading.Condition(self.lock)
        self.letters: dict[tuple[int, int], queue.Queue[bytes]] = defaultdict(queue.Queue)

    def exchange(self, room: tuple[int, int], rank: int, size: int, value: Any) -> dict[int, Any]:
        """Everybody's value, once all have come."""
        with self.full:
            self.rooms[room][rank] = value
            self.full.notify_all()
            done = self.full.wait_for(lambda: len(self.rooms[room]) == size, _PATIENCE_S)
            assert done, f"only {sorted(self.rooms[room])} of {size} ranks came"
            return self.rooms[room]


class FakeNccl:
    """The methods of `planner.runtime.ranks.nccl.Nccl` for one rank."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._members: dict[int, tuple[int, ...]] = {}
        self._turns: dict[int, itertools.count[int]] = {}
        self.rank = -1
        self.left: list[int] = []

    def unique_id(self) -> bytes:
        """As long as the real one."""
        return bytes(128)

    def join(self, identity: bytes, rank: int, world: int) -> int:
        """Everyone."""
        assert len(identity) == 128
        self.rank = rank
        return self._made(1, tuple(range(world)))

    def _made(self, communicator: int, members: tuple[int, ...]) -> int:
        self._members[communicator] = members
        self._turns[communicator] = itertools.count()
        return communicator

    def split(self, communicator: int, is_member: bool, key: int) -> int:
        """Those who say so, in the order of their keys."""
        told = self._meet(communicator, (is_member, key))
        members = sorted((key, rank) for rank, (joins, key) in told.items() if joins)
        if not is_member:
            return 0
        return self._made(len(self._members) * 1000 + members[0][1], tuple(r for _, r in members))

    def leave(self, communicator: int) -> None:
        """Noted."""
        self.left.append(communicator)

    def _meet(self, to: int, value: Any) -> dict[int, Any]:
        members = self._members[to]
        room = (to, next(self._turns[to]))
        return self._wire.exchange(room, self.rank, len(members), value)

    def _all(self, to: int, value: Any) -> list[Any]:
        told = self._meet(to, value)
        return [told[rank] for rank in self._members[to]]

    def all_reduce(
        self, source: int, target: int, count: int, kind: np.dtype[Any], to: int, stream: int
    ) -> None:
        """The sum."""
        told = self._all(to, array_at(source, kind, (count,)).copy())
        np.copyto(array_at(target, kind, (count,)), np.sum(told, axis=0, dtype=kind))

    def all_gather(self, source: int, target: int, size_bytes: int, to: int, stream: int) -> None:
        """One after the other."""
        told = self._all(to, ctypes.string_at(source, size_bytes))
        ctypes.memmove(target, b"".join(told), size_bytes * len(told))

    def reduce_scatter(
        self, source: int, target: int, count: int, kind: np.dtype[Any], to: int, stream: int
    ) -> None:
        """The own part of the sum."""
        members = self._members[to]
        told = self._all(to, array_at(source, kind, (len(members), count)).copy())
        total = np.sum(told, axis=0, dtype=kind)
        np.copyto(array_at(target, kind, (count,)), total[members.index(self.rank)])

    def send(self, source: int, size_bytes: int, peer: int, to: int, stream: int) -> None:
        """Left for the other."""
        self._wire.letters[self.rank, peer].put(ctypes.string_at(source, size_bytes))

    def receive(self, target: int, size_bytes: int, peer: int, to: int, stream: int) -> None:
        """Waits for it."""
        data = self._wire.letters[peer, self.rank].get(timeout=_PATIENCE_S)
        assert len(data) == size_bytes
        ctypes.memmove(target, data, size_bytes)
