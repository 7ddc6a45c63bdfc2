"""Ranks that talk through `torch.distributed`: gloo on CPUs; NCCL between GPUs."""

from __future__ import annotations

import datetime
import importlib
from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError
from planner.runtime import dtypes
from planner.runtime.ranks.fabric import JOIN_S, NCCL, Array, slice_of, summable

_TALK_S = 30.0
"""A collective that takes longer has lost a rank: it raises."""
_MOST_DIMENSIONS = 8
_NOTHING, _STRINGS = -1, -2
_TYPES = (
    *("float32", "float64", "float16", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128"),
    *("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
)
"""Types by the number that stands for them in a message's head."""


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
        self._device = "cpu"
        if library == NCCL:
            self._device = "cuda:0"  # the launcher shows each rank its own GPU only
            self._torch.cuda.set_device(0)
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
        return TorchGroup(self._torch, self._dist, made, position, len(ranks), self._device)

    def on_device(self, value: Array) -> Any:
        """Where collectives find it without a copy: a tensor on the rank's GPU."""
        if self._device == "cpu":
            return value
        return self._torch.from_numpy(value).to(self._device)

    def swap(self, value: Any, to: int, *, is_first: bool) -> None:
        """A tensor on the device to another rank and back, as `send` and `receive` do an array."""
        calls = (self._dist.send, self._dist.recv)
        for call in calls if is_first else calls[::-1]:
            call(value, to)
        self._torch.cuda.synchronize()

    def send(self, value: Array | None, to: int) -> None:
        """Type and shape first, then the bytes."""
        if value is None:
            self._dist.send(self._head(_NOTHING, ()), to)
            return
        if value.dtype.kind == "O":
            raise EnvironmentMismatchError(
                "strings cannot pass between ranks through torch", fix='pip install "infopt[mpi]"'
            )
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        self._dist.send(self._head(_TYPES.index(value.dtype.name), value.shape), to)
        self._dist.send(self._torch.from_numpy(data).to(self._device), to)

    def _head(self, kind: int, shape: tuple[int, ...]) -> Any:
        numbers = np.zeros(_MOST_DIMENSIONS + 2, np.int64)
        numbers[: len(shape) + 2] = (kind, len(shape), *shape)
        return self._torch.from_numpy(numbers).to(self._device)

    def receive(self, source: int) -> Array | None:
        """The next one."""
        head = self._head(0, ())
        self._dist.recv(head, source)
        kind, rank, *shape = (int(number) for number in head.cpu())
        if kind == _NOTHING:
            return None
        value = np.empty(shape[:rank], dtypes.numpy_dtype(_TYPES[kind]))
        data = self._torch.empty(value.nbytes, dtype=self._torch.uint8, device=self._device)
        self._dist.recv(data, source)
        received: Array = data.cpu().numpy().view(value.dtype).reshape(value.shape)
        return received

    def close(self) -> None:
        """Leaves the process group."""
        self._dist.destroy_process_group()


class TorchGroup:
    """Some of the ranks."""

    def __init__(
        self, torch: Any, dist: Any, group: Any, position: int, size: int, device: str
    ) -> None:
        self._torch = torch
        self._dist = dist
        self._group = group
        self._position = position
        self._size = size
        self._device = device

    def all_reduce(self, value: Any) -> Any:
        """The sum of what the ranks hold; of a tensor on the device, in place."""
        if not isinstance(value, np.ndarray):
            self._dist.all_reduce(value, group=self._group)
            self._torch.cuda.synchronize()
            return value
        given, dtype = summable(value)
        tensor = self._there(given if given is not value else given.copy())
        self._dist.all_reduce(tensor, group=self._group)
        return self._back(tensor).astype(dtype, copy=False)

    def all_gather(self, value: Any, axis: int) -> Any:
        """The ranks' slices joined, in their order."""
        if not isinstance(value, np.ndarray):
            slices = [self._torch.empty_like(value) for _ in range(self._size)]
            self._dist.all_gather(slices, value, group=self._group)
            self._torch.cuda.synchronize()
            return self._torch.cat(slices, axis)
        value = np.ascontiguousarray(value)
        own = self._there(value.reshape(-1).view(np.uint8))
        parts = [self._torch.empty_like(own) for _ in range(self._size)]
        self._dist.all_gather(parts, own, group=self._group)
        slices = [self._back(part).view(value.dtype).reshape(value.shape) for part in parts]
        return np.concatenate(slices, axis=axis)

    def reduce_scatter(self, value: Any, axis: int) -> Any:
        """The own slice of the sum; gloo has no such collective, so the sum is made whole."""
        if not isinstance(value, np.ndarray):
            slices = [part.contiguous() for part in value.chunk(self._size, axis)]
            own = self._torch.empty_like(slices[0])
            self._dist.reduce_scatter(own, slices, group=self._group)
            self._torch.cuda.synchronize()
            return own
        return slice_of(self.all_reduce(value), axis, self._position, self._size)

    def split(self, value: Array, axis: int) -> Array:
        """The own slice of what all hold."""
        return slice_of(value, axis, self._position, self._size)

    def _there(self, value: Array) -> Any:
        return self._torch.from_numpy(value).to(self._device)

    def _back(self, tensor: Any) -> Array:
        found: Array = tensor.cpu().numpy()
        return found
