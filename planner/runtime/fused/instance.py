"""One bucket, ready to run: an arena, a stream and its graphs. One call at a time."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

import numpy as np

from planner.errors import EngineHungError
from planner.runtime.fused.crossing import Block, copier, queue_in, queue_out
from planner.runtime.fused.dlpack import Borrowed, DeviceTensor
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.manifest import Argument, Binary, Bucket, Launch, Slot

Array = np.ndarray[Any, Any]
_SPIN_S = 2e-3
"""How long a wait polls before it sleeps between polls: most calls end sooner."""
_SLEEP_S = 5e-5
_REPLAYS = 5


class Instance:
    """Replays a bucket. Not for several threads: a session lends each instance to one call."""

    def __init__(
        self,
        bucket: Bucket,
        driver: Driver,
        functions: Mapping[str, Any],
        binaries: Mapping[str, Binary],
        weights_address: int,
    ) -> None:
        """Allocates the arena and captures both graphs.

        Raises:
            EnvironmentMismatchError: too little memory.
        """
        self.bucket = bucket
        self.driver = driver
        self._functions = functions
        self._binaries = binaries
        self._weights_address = weights_address
        self._given, self._found = Block.of(bucket.inputs), Block.of(bucket.outputs)
        with ExitStack() as undo:
            self.arena_address = driver.allocate(bucket.arena_size_bytes)
            undo.callback(driver.free, self.arena_address)
            self._staging = driver.allocate_pinned(self._given.size_bytes + self._found.size_bytes)
            undo.callback(driver.free_pinned, self._staging)
            self._staging_out = self._staging + self._given.size_bytes
            self._copier = copier(driver)
            self.graph = driver.capture(self.queue)
            self._with_copies = driver.capture(self._queue_with_copies)
            undo.pop_all()

    def queue(self, *, ahead: bool = True) -> None:
        """Queues every launch on the stream; `ahead`: kernels may start early and wait."""
        for position, launch in enumerate(self.bucket.launches):
            self.queue_one(launch, ahead=ahead and launch.ahead and position > 0)

    def queue_one(self, launch: Launch, *, ahead: bool) -> None:
        """Queues one launch; `ahead`: it may start before what is in front of it has ended."""
        item = self._binaries[launch.kernel]
        self.driver.launch(
            self._functions[launch.kernel],
            launch.programs,
            item.threads,
            item.shared_size_bytes,
            [*(self._address(a) for a in launch.arguments), 0, 0],
            ahead=ahead and item.waits,
            together=launch.together,
        )

    def binary_of(self, launch: Launch) -> Binary:
        """The kernel of a launch on this device."""
        return self._binaries[launch.kernel]

    def launch_us(self, position: int, repeats: int) -> float:
        """Microseconds of one launch in a chain of its like: the shortest of some replays."""
        launch = self.bucket.launches[position]

        def chain() -> None:
            for number in range(repeats):
                self.queue_one(launch, ahead=number > 0)

        graph = self.driver.capture(chain)
        taken = []
        for _ in range(_REPLAYS):
            begin = time.perf_counter()
            self.driver.replay(graph)
            self.driver.synchronize()
            taken.append((time.perf_counter() - begin) * 1e6 / repeats)
        self.driver.release(graph)
        return min(taken)

    def _queue_with_copies(self) -> None:
        driver, arena = self.driver, self.arena_address
        queue_in(driver, self._copier, self._staging, arena, self._given)
        self.queue()
        queue_out(driver, self._copier, self._staging_out, arena, self._found)

    def _address(self, argument: Argument) -> int:
        base = self._weights_address if argument.space == "weights" else self.arena_address
        return base + argument.offset

    def address_of(self, slot: Slot) -> int:
        """Where an input or output lies on the device."""
        return self.arena_address + slot.offset

    def replay(self) -> None:
        """One inference on what is in the arena; returns at once."""
        self.driver.replay(self.graph)

    def replay_us(self, repeats: int, timeout_s: float) -> float:
        """Microseconds of one replay of so many in a row.

        Raises:
            EngineHungError: they do not end in time.
        """
        self.driver.activate()
        self.driver.synchronize()
        begin = time.perf_counter()
        for _ in range(repeats):
            self.replay()
        self.wait(timeout_s)
        return (time.perf_counter() - begin) * 1e6 / repeats

    def run(self, arrays: Sequence[Array], timeout_s: float) -> dict[str, Array]:
        """Outputs for arrays in the order of the bucket's inputs.

        Raises:
            EngineHungError: no answer in time.
        """
        self.driver.activate()
        for array, slot in zip(arrays, self.bucket.inputs, strict=True):
            place = self._staging + self._given.place(slot)
            ctypes.memmove(place, array.ctypes.data, slot.size_bytes)
        self.driver.replay(self._with_copies)
        self.wait(timeout_s)
        found = {}
        for slot in self.bucket.outputs:
            value = np.empty(slot.shape, slot.dtype)
            place = self._staging_out + self._found.place(slot)
            ctypes.memmove(value.ctypes.data, place, slot.size_bytes)
            found[slot.name] = value
        return found

    def run_on_device(
        self,
        tensors: Sequence[Borrowed | Array],
        timeout_s: float,
        out: Mapping[str, Borrowed] = MappingProxyType({}),
    ) -> dict[str, DeviceTensor]:
        """The same with outputs that stay on the device: in `out`, else in memory of their own.

        Raises:
            EngineHungError: no answer in time.
        """
        driver = self.driver
        for tensor, slot in zip(tensors, self.bucket.inputs, strict=True):
            target = self.address_of(slot)
            if isinstance(tensor, Borrowed):
                driver.copy(target, tensor.address, slot.size_bytes)
            else:
                driver.upload(target, tensor.ctypes.data, slot.size_bytes)
        self.replay()
        found = {}
        for slot in self.bucket.outputs:
            if slot.name in out:
                driver.copy(out[slot.name].address, self.address_of(slot), slot.size_bytes)
                continue
            address = driver.allocate(slot.size_bytes)
            driver.copy(address, self.address_of(slot), slot.size_bytes)
            found[slot.name] = DeviceTensor(
                address, slot.shape, slot.dtype, driver.ordinal, driver.free
            )
        self.wait(timeout_s)
        return found

    def wait(self, timeout_s: float) -> None:
        """Until everything queued is done: polls, which answers 2 us sooner than blocking.

        Raises:
            EngineHungError: it is not done in time.
        """
        begin = time.monotonic()
        while not self.driver.is_done():
            waited_s = time.monotonic() - begin
            if waited_s > timeout_s:
                raise EngineHungError(
                    f"no answer from the GPU within {timeout_s:g} s", where=self.bucket.name
                )
            if waited_s > _SPIN_S:
                time.sleep(_SLEEP_S)

    def poison(self) -> None:
        """Fills the arena with NaN bit patterns: what is read before it is written shows."""
        self.driver.fill(self.arena_address, 0xFF, max(self.bucket.arena_size_bytes, 1))
        self.driver.synchronize()

    def close(self) -> None:
        """Frees its memory."""
        self.driver.activate()
        self.driver.synchronize()
        self.driver.free(self.arena_address)
        self.driver.free_pinned(self._staging)
