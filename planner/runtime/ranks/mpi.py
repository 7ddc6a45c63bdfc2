"""Ranks that talk through MPI: the lightest and fastest way on CPUs."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError
from planner.runtime.ranks.fabric import Array, slice_of, summable
from planner.runtime.ranks.talk import HostTalk


class MpiFabric:
    """`mpi4py` on the world that `mpiexec` made. When a rank dies, mpiexec ends the others."""

    def __init__(self, rank: int, world: int) -> None:
        """Raises EnvironmentMismatchError: no MPI library, or not the one mpiexec belongs to."""
        try:
            self._mpi: Any = importlib.import_module("mpi4py.MPI")
        except (ImportError, RuntimeError) as error:
            raise EnvironmentMismatchError(
                f"mpi4py finds no MPI: {error}", fix='pip install "infopt[mpi]"'
            ) from None
        self._world = self._mpi.COMM_WORLD
        if self._world.size != world:
            raise EnvironmentMismatchError(
                f"MPI started {self._world.size} ranks, not {world}: mpiexec belongs to another MPI"
                " than mpi4py",
                fix='pip install "infopt[mpi]"',
            )
        self.rank = int(self._world.rank)

    def group(self, ranks: tuple[int, ...]) -> MpiGroup:
        """Only its members do anything."""
        if self.rank not in ranks:
            return MpiGroup(self._mpi, None)
        members = self._world.group.Incl(list(ranks))
        return MpiGroup(self._mpi, self._world.Create_group(members))

    def talk(self) -> HostTalk:
        """Between places of this process."""
        return HostTalk(self)

    def send(self, value: Array | None, to: int) -> None:
        """Type and shape first, then the bytes; strings and None as they are."""
        if value is None or value.dtype.kind == "O":
            self._world.send(value, to)
            return
        value = np.ascontiguousarray(value)
        self._world.send((value.dtype, value.shape), to)
        self._world.Send(_bytes(value), to)

    def receive(self, source: int) -> Array | None:
        """The next one."""
        head = self._world.recv(source=source)
        if head is None or isinstance(head, np.ndarray):
            return head
        dtype, shape = head
        value = np.empty(shape, dtype)
        self._world.Recv(_bytes(value), source)
        return value

    def close(self) -> None:
        """MPI ends when the process does."""


class MpiGroup:
    """A communicator; None on a rank outside."""

    def __init__(self, mpi: Any, communicator: Any) -> None:
        self._mpi = mpi
        self._to = communicator

    def all_reduce(self, value: Array) -> Array:
        """The sum of what the ranks hold."""
        given, dtype = summable(value)
        total = np.empty_like(given)
        self._to.Allreduce(given, total, self._mpi.SUM)
        summed: Array = total.astype(dtype, copy=False)
        return summed

    def all_gather(self, value: Array, axis: int) -> Array:
        """The ranks' slices joined, in their order."""
        value = np.ascontiguousarray(value)
        parts = np.empty((self._to.size, *value.shape), value.dtype)
        self._to.Allgather(_bytes(value), _bytes(parts))
        return np.concatenate(list(parts), axis=axis)

    def reduce_scatter(self, value: Array, axis: int) -> Array:
        """The own slice of the sum."""
        given, dtype = summable(value)
        parts = self._to.size
        slices = np.stack([slice_of(given, axis, one, parts) for one in range(parts)])
        own = np.empty_like(slices[0])
        self._to.Reduce_scatter_block(slices, own, self._mpi.SUM)
        kept: Array = own.astype(dtype, copy=False)
        return kept

    def split(self, value: Array, axis: int) -> Array:
        """The own slice of what all hold."""
        return slice_of(value, axis, self._to.rank, self._to.size)


def _bytes(value: Array) -> Array:
    """The same memory, as MPI takes it whatever the type."""
    return value.reshape(-1).view(np.uint8)
