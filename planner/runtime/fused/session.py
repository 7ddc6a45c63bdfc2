"""A fused engine, loaded: weights once, and per bucket of shapes the arenas and graphs of calls.

`run` takes and returns NumPy arrays, `run_on_device` whatever speaks DLPack.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np

from planner.errors import DataError, EngineHungError, EnvironmentMismatchError, UsageError
from planner.runtime.fused import manifest as manifests
from planner.runtime.fused.binaries import choose
from planner.runtime.fused.dlpack import Streams
from planner.runtime.fused.driver import SHARED_PERCENT, Driver
from planner.runtime.fused.inputs import borrowed, fitting, missing, refuse_elsewhere, target
from planner.runtime.fused.instance import Instance
from planner.runtime.fused.loops import fitted
from planner.runtime.fused.manifest import Binary, Bucket, FusedManifest
from planner.units import format_size

Array = np.ndarray[Any, Any]
TIMEOUT_S = 10.0
"""Longest wait for an answer: small models take milliseconds at most, so that a kernel which needs
seconds will not end."""
_RESTART = "restart the process: a kernel that hangs cannot be stopped from inside"


class FusedSession:
    """Runs a fused engine. Calls from several threads are safe; `copies` of them run at once."""

    def __init__(
        self,
        directory: Path,
        manifest: FusedManifest,
        driver: Driver,
        *,
        copies: int = 1,
        timeout_s: float = TIMEOUT_S,
        apart: Mapping[str, str] = MappingProxyType({}),
        shared_percent: int = SHARED_PERCENT,
    ) -> None:
        """Loads kernels and weights, and captures the graphs (see `load`)."""
        self.driver = driver
        self.shared_percent = driver.shared_percent = shared_percent
        self.timeout_s = timeout_s
        self._hung: EngineHungError | None = None
        self._lock = threading.Lock()
        manifest = manifest.on(driver.architecture)
        binaries = choose(manifest, driver.architecture)
        _refuse_too_little_memory(manifest, driver, copies)
        with ExitStack() as undo:  # of what does not load whole, nothing stays on the device
            self.weights_address = driver.allocate(manifest.weights_size_bytes)
            undo.callback(driver.free, self.weights_address)
            self._upload(directory / manifests.WEIGHTS)

            def loaded(item: Binary) -> Any:
                cubin = (directory / item.file).read_bytes()
                return driver.load(cubin, item.entry, item.shared_size_bytes)

            made = fitted(manifest, binaries, driver, loaded, apart)
            self.manifest, self.loops = made.manifest, made.ways
            self._instances: list[Instance] = []
            self._free: dict[str, queue.SimpleQueue[Instance]] = {}
            for bucket in self.manifest.buckets:
                waiting = self._free[bucket.name] = queue.SimpleQueue()
                for _ in range(copies):
                    own = driver if not self._instances else Driver(driver.ordinal)
                    one = Instance(bucket, own, made.functions, binaries, self.weights_address)
                    undo.callback(one.close)
                    self._instances.append(one)
                    waiting.put(one)
            undo.pop_all()
        self._is_open = True

    def _upload(self, weights: Path) -> None:
        held = np.frombuffer(weights.read_bytes() or b"\0", np.uint8)
        self.driver.upload(self.weights_address, held.ctypes.data, held.nbytes)
        self.driver.synchronize()

    @property
    def first(self) -> Instance:
        """Of the first bucket, for measuring: nobody else may run meanwhile."""
        return self._instances[0]

    @property
    def loops_text(self) -> tuple[str, ...]:
        """How each loop runs here: `100 steps as one loop of 80 blocks`."""
        several = len(self.manifest.buckets) > 1
        return tuple(f"{way.bucket}: " * several + way.text for way in self.loops)

    @property
    def is_healthy(self) -> bool:
        """False once a call got no answer in time: the process must start anew."""
        return self._hung is None

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs by name.

        Raises:
            DataError: names, dtypes or shapes that do not fit.
            EngineHungError: no answer in time, now or before.
            UsageError: the session is closed.
        """
        bucket = self._bucket({name: value.shape for name, value in feeds.items()})
        arrays = [fitting(slot, feeds) for slot in bucket.inputs]
        with self._lent(bucket) as instance:
            return instance.run(arrays, self.timeout_s)

    def run_on_device(
        self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The same for anything that speaks DLPack; NumPy arrays are uploaded.

        Outputs stay on the device: in the caller's tensors of `out`, which saves an allocation
        each, or in memory of their own, `torch.from_dlpack(output)`.

        Raises: as `run`.
        """
        bucket = self._bucket({name: tuple(value.shape) for name, value in feeds.items()})
        with self._lent(bucket) as instance:
            instance.driver.activate()
            streams = Streams(int(instance.driver.stream))
            tensors = [borrowed(slot, feeds[slot.name], streams) for slot in bucket.inputs]
            for slot, tensor in zip(bucket.inputs, tensors, strict=True):
                refuse_elsewhere(slot, tensor, instance.driver.ordinal)
            given = out or {}
            targets = {
                slot.name: target(slot, given[slot.name], streams)
                for slot in bucket.outputs
                if slot.name in given
            }
            return {**given, **instance.run_on_device(tensors, self.timeout_s, targets)}

    def kernel_us(self, repeats: int = 50) -> dict[str, float]:
        """Microseconds of one launch of each kernel, in a chain of its like; nobody else may run.

        What the arena holds is lost.
        """
        found: dict[str, float] = {}
        for instance in self._instances:
            for position, launch in enumerate(instance.bucket.launches):
                if launch.kernel not in found:
                    found[launch.kernel] = instance.launch_us(position, repeats)
        return found

    def replay_us(self, feeds: Mapping[str, Array], repeats: int) -> float:
        """Microseconds of a replay of the graph for such inputs, in a row of its like; nobody else
        may run.

        Raises: as `run`.
        """
        bucket = self._bucket({name: value.shape for name, value in feeds.items()})
        arrays = [fitting(slot, feeds) for slot in bucket.inputs]
        with self._lent(bucket) as instance:
            instance.run(arrays, self.timeout_s)  # another bucket's runs may have spoilt the arena
            return instance.replay_us(repeats, self.timeout_s)

    def poison(self) -> None:
        """Leaves no number in any arena: what is read before it is written shows."""
        for instance in self._instances:
            instance.poison()

    def _bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Bucket:
        """The bucket with these input shapes.

        Raises:
            DataError: there is none.
        """
        buckets = self.manifest.buckets
        names = {slot.name for slot in buckets[0].inputs}
        unknown = sorted(shapes.keys() - names)
        if unknown:
            raise DataError(f"unknown input {unknown[0]!r}")
        for slot in buckets[0].inputs:
            if slot.name not in shapes:
                raise missing(slot)
        for bucket in buckets:
            if all(shapes[slot.name] == slot.shape for slot in bucket.inputs):
                return bucket
        if len(buckets) == 1:
            return buckets[0]  # whose slots say which input does not fit
        listed = "; ".join(
            ", ".join(f"{slot.name} {slot.shape}" for slot in bucket.inputs) for bucket in buckets
        )
        raise DataError(
            f"no bucket has inputs of these shapes: {dict(shapes)}",
            fix=f"one of: {listed}; or plan with --shapes for these as well",
        )

    @contextmanager
    def _lent(self, bucket: Bucket) -> Iterator[Instance]:
        self._refuse_unusable()
        waiting = self._free[bucket.name]
        instance = waiting.get()
        try:
            self._refuse_unusable()
            yield instance
        except EngineHungError as error:
            self._hung = error
            raise EngineHungError(error.what, where=error.where, fix=_RESTART) from None
        finally:
            waiting.put(instance)

    def _refuse_unusable(self) -> None:
        if self._hung is not None:
            raise EngineHungError("the GPU stopped answering in an earlier call", fix=_RESTART)
        if not self._is_open:
            raise UsageError("the session is closed")

    def close(self) -> None:
        """Frees the device memory once running calls have ended; later runs are refused.

        Of a device that hangs nothing is freed: that would wait for it forever.
        """
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
        if self._hung is not None:
            return
        for instance in self._instances:
            self._free[instance.bucket.name].get()
            instance.close()
        for instance in self._instances:  # whoever waits for one learns that it is closed
            self._free[instance.bucket.name].put(instance)
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


def load(
    directory: Path | str,
    *,
    device: int = 0,
    copies: int = 1,
    timeout_s: float = TIMEOUT_S,
    apart: Mapping[str, str] = MappingProxyType({}),
    shared_percent: int = SHARED_PERCENT,
) -> FusedSession:
    """Checks a fused engine directory and makes it ready to run.

    Args:
        copies: calls of one bucket that may run at once; each has an arena of its own.
        timeout_s: longest wait for an answer.
        apart: kernels of loops that run as launches here whether they fit or not, and why.
        shared_percent: of a multiprocessor's memory, asked for by every kernel as shared memory.

    Raises:
        VerificationError: the manifest or a file is not what was built.
        EnvironmentMismatchError: no GPU, another architecture, too little memory, an old driver.
    """
    directory = Path(directory)
    manifests.check_files(directory, manifests.read(directory))
    return open_checked(
        directory,
        device=device,
        copies=copies,
        timeout_s=timeout_s,
        apart=apart,
        shared_percent=shared_percent,
    )


def open_checked(
    directory: Path,
    *,
    device: int = 0,
    copies: int = 1,
    timeout_s: float = TIMEOUT_S,
    apart: Mapping[str, str] = MappingProxyType({}),
    shared_percent: int = SHARED_PERCENT,
) -> FusedSession:
    """The same, for files that were checked already.

    Raises: as `load`.
    """
    manifest = manifests.read(directory)
    return FusedSession(
        directory,
        manifest,
        Driver(device),
        copies=copies,
        timeout_s=timeout_s,
        apart=apart,
        shared_percent=shared_percent,
    )


def _refuse_too_little_memory(manifest: FusedManifest, driver: Driver, copies: int) -> None:
    arenas = sum(bucket.arena_size_bytes for bucket in manifest.buckets)
    needed = manifest.weights_size_bytes + copies * arenas
    free = driver.free_bytes()
    if needed > free:
        raise EnvironmentMismatchError(
            f"the engine needs {format_size(needed)} on the GPU, {format_size(free)} are free",
            fix="stop what else runs there, or load fewer copies",
        )
