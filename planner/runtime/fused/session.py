"""A fused engine, loaded: weights and arena on the device, one graph, replayed per call."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from planner.errors import DataError, EnvironmentMismatchError, UsageError
from planner.runtime.fused import manifest as manifests
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.manifest import Argument, Binary, FusedManifest, Slot

Array = np.ndarray[Any, Any]


class FusedSession:
    """Runs a fused engine. Calls from several threads take turns."""

    def __init__(self, directory: Path, manifest: FusedManifest, driver: Driver) -> None:
        """Loads kernels and weights, and captures the graph (see `load`)."""
        self.manifest = manifest
        self.driver = driver
        self._lock = threading.Lock()
        binaries = choose(manifest, driver.architecture)
        weights = (directory / manifests.WEIGHTS).read_bytes()
        self.weights_address = driver.allocate(len(weights))
        self.arena_address = driver.allocate(manifest.arena_size_bytes)
        held = np.frombuffer(weights, np.uint8) if weights else np.zeros(1, np.uint8)
        driver.upload(self.weights_address, held.ctypes.data, held.nbytes)
        driver.synchronize()
        self._functions = {
            name: driver.load(
                (directory / item.file).read_bytes(), item.entry, item.shared_size_bytes
            )
            for name, item in binaries.items()
        }
        self._binaries = binaries
        self.graph = driver.capture(self.queue)
        self._open = True

    def queue(self, *, ahead: bool = True) -> None:
        """Queues every launch on the driver's stream; `ahead`: kernels may start early and wait."""
        for position, launch in enumerate(self.manifest.launches):
            item = self._binaries[launch.kernel]
            addresses = [*(self._address(a) for a in launch.arguments), 0, 0]
            self.driver.launch(
                self._functions[launch.kernel],
                launch.programs,
                item.threads,
                item.shared_size_bytes,
                addresses,
                ahead=ahead and item.waits and position > 0,
            )

    def _address(self, argument: Argument) -> int:
        base = self.weights_address if argument.space == "weights" else self.arena_address
        return base + argument.offset

    def address_of(self, slot: Slot) -> int:
        """Where an input or output lies on the device: for callers that keep data there."""
        return self.arena_address + slot.offset

    def replay(self) -> None:
        """One inference on what is on the device; returns at once."""
        self.driver.replay(self.graph)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs by name.

        Raises:
            DataError: names, dtypes or shapes that do not fit.
            UsageError: the session is closed.
        """
        arrays = [fitting(slot, feeds) for slot in self.manifest.inputs]
        unknown = sorted(set(feeds) - {slot.name for slot in self.manifest.inputs})
        if unknown:
            raise DataError(f"unknown input {unknown[0]!r}")
        found = {slot.name: np.empty(slot.shape, slot.dtype) for slot in self.manifest.outputs}
        with self._lock:
            if not self._open:
                raise UsageError("the session is closed")
            self.driver.activate()
            for slot, array in zip(self.manifest.inputs, arrays, strict=True):
                self.driver.upload(self.address_of(slot), array.ctypes.data, slot.size_bytes)
            self.replay()
            for slot in self.manifest.outputs:
                target = found[slot.name].ctypes.data
                self.driver.download(target, self.address_of(slot), slot.size_bytes)
            self.driver.synchronize()
        return found

    def poison(self) -> None:
        """Fills the arena with NaN bit patterns: what is read before it is written shows."""
        self.driver.fill(self.arena_address, 0xFF, max(self.manifest.arena_size_bytes, 1))
        self.driver.synchronize()

    def close(self) -> None:
        """Frees the device memory; later runs are refused."""
        with self._lock:
            if self._open:
                self._open = False
                self.driver.synchronize()
                self.driver.free(self.arena_address)
                self.driver.free(self.weights_address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def load(directory: Path | str, *, device: int = 0) -> FusedSession:
    """Checks a fused engine directory and makes it ready to run.

    Raises:
        VerificationError: the manifest or a file is not what was built.
        EnvironmentMismatchError: no GPU, another architecture, too little memory, an old driver.
    """
    directory = Path(directory)
    manifest = manifests.read(directory)
    manifests.check_files(directory, manifest)
    return FusedSession(directory, manifest, Driver(device))


def choose(manifest: FusedManifest, architecture: int) -> dict[str, Binary]:
    """The binary of every kernel for this device.

    A cubin runs on its own architecture and on later ones of the same major version.

    Raises:
        EnvironmentMismatchError: the engine was not built for this device.
    """
    fitting_ones = [
        item
        for item in manifest.binaries
        if item.architecture // 10 == architecture // 10 and item.architecture <= architecture
    ]
    best: dict[str, Binary] = {}
    for item in sorted(fitting_ones, key=lambda item: item.architecture):
        best[item.kernel] = item
    missing = {launch.kernel for launch in manifest.launches} - set(best)
    if missing:
        built = sorted({item.architecture for item in manifest.binaries})
        raise EnvironmentMismatchError(
            f"this GPU is sm_{architecture}, the engine holds kernels for "
            + ", ".join(f"sm_{value}" for value in built),
            fix="build the engine for this GPU",
        )
    return best


def fitting(slot: Slot, feeds: Mapping[str, Array]) -> Array:
    """The input as the engine reads it.

    Raises:
        DataError: absent, or of another dtype or shape.
    """
    value = feeds.get(slot.name)
    where = f"input {slot.name!r}"
    if value is None:
        raise DataError("missing", where=where, fix=f"the engine takes {slot.dtype} {slot.shape}")
    if value.dtype != np.dtype(slot.dtype) or value.shape != slot.shape:
        raise DataError(
            f"got {value.dtype} {value.shape}, expected {slot.dtype} {slot.shape}", where=where
        )
    return np.ascontiguousarray(value)
