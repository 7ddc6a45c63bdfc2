"""Ranks that talk through `torch.distributed` and gloo, on CPUs where there is no MPI."""

from __future__ import annotations

import datetime
import importlib
from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError
from planner.runtime.ranks.fabric import JOIN_S, Array, slice_of, summable
from planner.runtime.ranks.heads import WORDS, bytes_of, empty_for, head_of
from planner.runtime.ranks.talk import HostTalk

_TALK_S = 30.0
"""A collective that takes longer has lost a rank: it raises."""


class TorchFabric:
    """A process group; the ranks meet at a file."""

    def __init__(self, library: str, rank: int, world: int, meeting: str) -> None:
        """Raises EnvironmentMismatchError: torch cannot be loaded, or the ranks do not meet."""
        try:
            self._torch: Any = importlib.import_module("torch")
            self._dist: Any = importlib.import_module("torch.distributed")
        except ImportError as error:
            raise EnvironmentMismatchError(
                f"torch cannot be loaded: {error}", fix='pip install "infopt[distributed]"'
            ) from None
        self._torch.set_num_threads(1)
        self.rank = rank
        try:
            self._dist.init_process_group(
                library,
                init_method=f"file://{meeting}",
                rank=rank,
                world_size=world,
                timeout=datetime.timedelta(seconds=JOIN_S),
            )
        except (RuntimeError, ValueError) as error:
            raise EnvironmentMismatchError(f"the ranks do not meet: {error}") from None
        self._dist.distributed_c10d._set_pg_timeout(datetime.timedelta(seconds=_TALK_S))

    def group(self, ranks: tuple[int, ...]) -> TorchGroup:
        """torch wants every rank to make every group."""
        timeout = datetime.timedelta(seconds=_TALK_S)
        made = self._dist.new_group(list(ranks), timeout=timeout)
        position = ranks.index(self.rank) if self.rank in ranks else -1
        return TorchGroup(self._torch, self._dist, made, position, len(ranks))

    def talk(self) -> HostTalk:
        """Between places of this process."""
        return HostTalk(self)

    def send(self, value: Array | None, to: int) -> None:
        """Type and shape first, then the bytes."""
        self._dist.send(self._torch.from_numpy(head_of(value)), to)
        if value is not None:
            self._dist.send(self._torch.from_numpy(bytes_of(value)), to)

    def receive(self, source: int) -> Array | None:
        """The next one."""
        head = np.zeros(WORDS, np.int64)
        self._dist.recv(self._torch.from_numpy(head), source)
        value = empty_for(head)
        if value is not None:
            self._dist.recv(self._torch.from_numpy(value.reshape(-1).view(np.uint8)), source)
        return value

    def close(self) -> None:
        """Leaves the process group."""
        self._dist.destroy_process_group()


class TorchGroup:
    """Some of the ranks."""

    def __init__(self, torch: Any, dist: Any, group: Any, position: int, size: int) -> None:
        self._torch = torch
        self._dist = dist
        self._group = group
        self._position = position
        self._size = size

    def all_reduce(self, value: Array) -> Array:
        """The sum of what the ranks hold."""
        given, dtype = summable(value)
        total = given.copy() if given is value else given
        self._dist.all_reduce(self._torch.from_numpy(total), group=self._group)
        summed: Array = total.astype(dtype, copy=False)
        return summed

    def all_gather(self, value: Array, axis: int) -> Array:
        """The ranks' slices joined, in their order."""
        value = np.ascontiguousarray(value)
        own = self._torch.from_numpy(bytes_of(value))
        parts = [self._torch.empty_like(own) for _ in range(self._size)]
        self._dist.all_gather(parts, own, group=self._group)
        slices = [part.numpy().view(value.dtype).reshape(value.shape) for part in parts]
        return np.concatenate(slices, axis=axis)

    def reduce_scatter(self, value: Array, axis: int) -> Array:
        """The own slice of the sum; gloo has no such collective, so the sum is made whole."""
        return slice_of(self.all_reduce(value), axis, self._position, self._size)

    def split(self, value: Array, axis: int) -> Array:
        """The own slice of what all hold."""
        return slice_of(value, axis, self._position, self._size)
