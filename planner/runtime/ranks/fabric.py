"""Which library the ranks talk through, and what all of them can do. No own transport is made.

| library | needs | where |
|---|---|---|
| mpi | mpi4py and an MPI (the `mpich` wheel) | CPU: 5 us for a small all-reduce |
| gloo | torch | CPU, where MPI is absent |
| nccl | NCCL and cuda-bindings | GPUs |
"""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

import numpy as np

from planner.errors import EnvironmentMismatchError
from planner.runtime.ranks.nccl import library_path
from planner.runtime.ranks.talk import Talk

Array = np.ndarray[Any, Any]

MPI, GLOO, NCCL = "mpi", "gloo", "nccl"
JOIN_S = 120.0
"""All ranks must have found each other by then."""


class Group(Protocol):
    """Some of the ranks. Every one of them calls the same methods in the same order."""

    def all_reduce(self, value: Any) -> Any:
        """The sum of what the ranks hold."""

    def all_gather(self, value: Any, axis: int) -> Any:
        """The ranks' slices joined, in their order."""

    def reduce_scatter(self, value: Any, axis: int) -> Any:
        """The own slice of the sum."""

    def split(self, value: Any, axis: int) -> Any:
        """The own slice of what all hold."""


class Fabric(Protocol):
    """A rank's way to the others."""

    rank: int

    def group(self, ranks: tuple[int, ...]) -> Group:
        """A group; every rank of the engine asks for the same groups in the same order."""

    def talk(self) -> Talk:
        """The same from memory to memory that never moves."""

    def send(self, value: Any, to: int) -> None:
        """Hand a tensor over; None says that it could not be made."""

    def receive(self, source: int) -> Any:
        """Take the next tensor from a rank, or None."""

    def close(self) -> None:
        """Leave, where all is well."""


def choose(device: str) -> str:
    """The library for ranks on such devices.

    Raises:
        EnvironmentMismatchError: none is installed.
    """
    if device == "cuda":
        if library_path() is None:
            raise _absent("NCCL", "nccl")
        return NCCL
    has_torch = importlib.util.find_spec("torch") is not None
    if importlib.util.find_spec("mpi4py") is not None:
        return MPI
    if has_torch:
        return GLOO
    raise _absent("mpi4py and an MPI, or torch", "mpi")


def _absent(what: str, extra: str) -> EnvironmentMismatchError:
    return EnvironmentMismatchError(
        f"an engine of several ranks needs {what}", fix=f'pip install "infopt[{extra}]"'
    )


def join(library: str, rank: int, world: int, meeting: str) -> Fabric:
    """This rank, in touch with the others.

    Args:
        meeting: path of a file that does not exist, the same for all ranks (gloo, NCCL).

    Raises:
        EnvironmentMismatchError: the library cannot be loaded, or started fewer ranks.
    """
    if library == MPI:
        from planner.runtime.ranks.mpi import MpiFabric

        return MpiFabric(rank, world)
    if library == NCCL:
        from planner.runtime.ranks.nccl_fabric import NcclFabric

        return NcclFabric(rank, world, meeting)
    from planner.runtime.ranks.torch_fabric import TorchFabric

    return TorchFabric(library, rank, world, meeting)


def slice_of(value: Array, axis: int, position: int, parts: int) -> Array:
    """One of `parts` equal slices, contiguous.

    Raises:
        EnvironmentMismatchError: they would not be equal.
    """
    size = value.shape[axis]
    if size % parts:
        raise EnvironmentMismatchError(f"{size} elements cannot be shared by {parts} ranks")
    share = size // parts
    index = [slice(None)] * value.ndim
    index[axis] = slice(position * share, (position + 1) * share)
    return np.ascontiguousarray(value[tuple(index)])


def summable(value: Array) -> tuple[Array, np.dtype[Any]]:
    """A contiguous array of a type that every library adds, and the type to go back to.

    16-bit floats are added in 32: not all libraries know them, and sums of few bits lose some.
    """
    if value.dtype.itemsize < 4 and value.dtype.kind not in "iub":
        return np.ascontiguousarray(value, dtype=np.float32), value.dtype
    return np.ascontiguousarray(value), value.dtype
