"""Weights that stream to a GPU: page-locked in host memory, copied on a stream of their own into
one of two places on the device, while ONNX Runtime computes on its stream.

What passes between parts stays on the device. A copy is waited for before its part starts, and a
part has ended before its place is written again: ONNX Runtime's runs return when they are done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from planner.errors import VerificationError
from planner.runtime import dtypes
from planner.runtime.fused.driver import Driver
from planner.runtime.streaming.mapped import end_of
from planner.spec.manifest import StreamedTensor

_DEVICE, _ORDINAL = "cuda", 0
_PLACES = 2


@dataclass(frozen=True, slots=True)
class OnDevice:
    """A weight where it lies now."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Slots:
    """A source of weights for sessions on a GPU."""

    def __init__(
        self, files: Sequence[tuple[Path, tuple[StreamedTensor, ...]]], driver: Driver | None = None
    ) -> None:
        """Raises EnvironmentMismatchError: no GPU, or not enough memory there or here."""
        self._driver = driver or Driver()
        self._tensors = [tensors for _, tensors in files]
        self._sizes = [max(map(end_of, tensors)) for tensors in self._tensors]
        self._pinned = [
            self._read(path, size) for (path, _), size in zip(files, self._sizes, strict=True)
        ]
        self._places = [self._driver.allocate(max(self._sizes)) for _ in range(_PLACES)]
        self._free = list(self._places)
        self._held: dict[int, int] = {}

    @property
    def count(self) -> int:
        """How many parts stream."""
        return len(self._tensors)

    def start(self, number: int) -> None:
        """Queues the copy."""
        place = self._free.pop()
        self._driver.activate()
        self._driver.upload(place, self._pinned[number], self._sizes[number])
        self._held[number] = place

    def finish(self, number: int) -> Mapping[str, OnDevice]:
        """Waits for it."""
        self._driver.activate()
        self._driver.synchronize()
        place = self._held[number]
        return {
            tensor.name: OnDevice(
                place + tensor.offset, dtypes.numpy_dtype(tensor.dtype), tensor.shape
            )
            for tensor in self._tensors[number]
        }

    def release(self, number: int) -> None:
        """Its place may be written again."""
        self._free.append(self._held.pop(number))

    def close(self) -> None:
        """Frees host and device memory."""
        self._driver.activate()
        self._driver.synchronize()
        for place in self._places:
            self._driver.free(place)
        for address in self._pinned:
            self._driver.free_pinned(address)
        self._places, self._pinned = [], []

    def _read(self, path: Path, size_bytes: int) -> int:
        address = self._driver.allocate_pinned(size_bytes)
        buffer = (ctypes.c_char * size_bytes).from_address(address)
        with path.open("rb") as file:
            found = file.readinto(buffer)
        if found != size_bytes:
            raise VerificationError(
                f"has {found} bytes of weights; {size_bytes} were built", where=str(path)
            )
        return address


class DevicePart:
    """A callable `feeds -> values on the device` around a session."""

    def __init__(self, session: Any, outputs: Sequence[str]) -> None:
        self._session = session
        self._outputs = outputs

    def __call__(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Arrays go to the device first; what is there is taken as it is."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, OnDevice):
                binding.bind_input(name, _DEVICE, _ORDINAL, value.dtype, value.shape, value.address)
                continue
            binding.bind_ortvalue_input(name, _there(value))
        for name in self._outputs:
            binding.bind_output(name, _DEVICE, _ORDINAL)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        found: list[Any] = binding.get_outputs()
        return found


def on_host(value: Any) -> Any:
    """As an array, wherever it is."""
    return value if isinstance(value, np.ndarray) else value.numpy()


def _there(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    make = onnxruntime.OrtValue.ortvalue_from_numpy
    return make(np.ascontiguousarray(value), _DEVICE, _ORDINAL)
