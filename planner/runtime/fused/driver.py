"""The few calls of the CUDA driver that an engine needs, errors as exceptions.

Why the bindings below `cuda.core` and not its launcher: its launch configuration knows dependent
launches only in recent versions, and a replay through it costs the host 2.5 us against 1.6 us here
(`benchmarks/results`).
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from planner.errors import EnvironmentMismatchError, InfoptError
from planner.units import format_size

_STATIC_SHARED_LIMIT_BYTES = 48 * 1024
"""More shared memory a block must be asked for (CUDA programming guide)."""
SHARED_PERCENT = 50
"""Of a multiprocessor's memory that kernels ask to be shared memory rather than cache, whatever
they need themselves. Left to the driver, neighbours ask for different shares; a multiprocessor
changes its share only while it is idle, so that no kernel starts beside the one in front of it.
With one share for all 66 engines take 0.67 to 1.09 of that, 0.965 in the mean, 0.95 with the best
of `SHARES` (H200, 2026-11-28, `benchmarks/results/h200_shares.json`). A kernel that needs more gets
more."""
DRIVERS_OWN = -1
"""No share asked for: the driver's own choice, kernel by kernel."""
SHARES = (SHARED_PERCENT, 25, 100, DRIVERS_OWN)
"""Those worth measuring, the default first."""
_NOT_READY = 600
"""CUDA_ERROR_NOT_READY"""
_TOO_LARGE = 720
"""CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"""


def _text(value: Any) -> str:
    """A C string in a buffer."""
    data = value if isinstance(value, bytes) else str(value).encode()
    return data.split(b"\0", 1)[0].decode(errors="replace")


class Driver:
    """The CUDA driver on one device, with a stream of its own."""

    shared_percent = SHARED_PERCENT
    """Of kernels loaded from now on."""

    def __init__(self, ordinal: int = 0) -> None:
        """Raises EnvironmentMismatchError: no bindings, no driver, no such device."""
        try:
            self.api: Any = importlib.import_module("cuda.bindings.driver")
        except ModuleNotFoundError:
            raise EnvironmentMismatchError(
                "fused engines need cuda-core", fix='pip install "infopt[fused]"'
            ) from None
        self.ordinal = ordinal
        try:
            self._call(self.api.cuInit, 0)
            self.device = self._call(self.api.cuDeviceGet, ordinal)
        except (InfoptError, RuntimeError) as error:
            raise EnvironmentMismatchError(f"no usable NVIDIA GPU: {error}") from None
        self.context = self._call(self.api.cuDevicePrimaryCtxRetain, self.device)
        self.activate()
        kinds = self.api.CUdevice_attribute
        major = self.attribute(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        minor = self.attribute(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        self.architecture = 10 * major + minor
        self.name = _text(self._call(self.api.cuDeviceGetName, 256, self.device))
        self.version = int(self._call(self.api.cuDriverGetVersion))
        flags = self.api.CUstream_flags.CU_STREAM_NON_BLOCKING
        self.stream = self._call(self.api.cuStreamCreate, flags)

    def _call(self, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
        error, *values = function(*arguments)
        if int(error) != 0:
            raise InfoptError(f"{function.__name__}: {error.name}")
        return values[0] if len(values) == 1 else tuple(values)

    def activate(self) -> None:
        """Makes the device current in the calling thread."""
        self._call(self.api.cuCtxSetCurrent, self.context)

    def attribute(self, kind: Any) -> int:
        """A property of the device."""
        return int(self._call(self.api.cuDeviceGetAttribute, kind, self.device))

    def blocks_at_once(self, function: Any, threads: int, shared_size_bytes: int) -> int | None:
        """How many blocks of a kernel the device holds at once; None where it promises nothing."""
        kinds = self.api.CUdevice_attribute
        if not self.attribute(kinds.CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH):
            return None
        ask = self.api.cuOccupancyMaxActiveBlocksPerMultiprocessor
        each = int(self._call(ask, function, threads, shared_size_bytes))
        return each * self.attribute(kinds.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)

    def allocate(self, size_bytes: int) -> int:
        """The address of new device memory.

        Raises:
            EnvironmentMismatchError: there is not that much.
        """
        try:
            return int(self._call(self.api.cuMemAlloc, max(size_bytes, 256)))
        except InfoptError as error:
            raise EnvironmentMismatchError(
                f"the GPU has no {format_size(size_bytes)} left ({error.what})"
            ) from None

    def free(self, address: int) -> None:
        """Gives memory back, from whatever thread; waits for who still uses it."""
        self.activate()
        self._call(self.api.cuMemFree, address)

    def allocate_pinned(self, size_bytes: int) -> int:
        """The address of host memory that the device copies from and to without a detour.

        Raises:
            EnvironmentMismatchError: there is not that much.
        """
        try:
            return int(self._call(self.api.cuMemHostAlloc, max(size_bytes, 256), 0))
        except InfoptError as error:
            raise EnvironmentMismatchError(
                f"no {format_size(size_bytes)} of pinned host memory are left ({error.what})"
            ) from None

    def free_pinned(self, address: int) -> None:
        """Gives host memory back."""
        self._call(self.api.cuMemFreeHost, address)

    def pin(self, address: int, size_bytes: int) -> None:
        """Page-locks host memory that is there already.

        Raises:
            EnvironmentMismatchError: the system does not let it.
        """
        try:
            self._call(self.api.cuMemHostRegister, address, size_bytes, 0)
        except InfoptError as error:
            raise EnvironmentMismatchError(
                f"{format_size(size_bytes)} of host memory cannot be pinned ({error.what})"
            ) from None

    def unpin(self, address: int) -> None:
        """Lets it be paged again."""
        self._call(self.api.cuMemHostUnregister, address)

    def free_bytes(self) -> int:
        """Device memory that nobody holds now."""
        return int(self._call(self.api.cuMemGetInfo)[0])

    def copy(self, target: int, source: int, size_bytes: int) -> None:
        """Device to device, in stream order."""
        self._call(self.api.cuMemcpyDtoDAsync, target, source, size_bytes, self.stream)

    def fill(self, address: int, value: int, size_bytes: int) -> None:
        """Sets bytes, in stream order."""
        self._call(self.api.cuMemsetD8Async, address, value, size_bytes, self.stream)

    def upload(self, address: int, source: int, size_bytes: int) -> None:
        """Host to device, in stream order."""
        self._call(self.api.cuMemcpyHtoDAsync, address, source, size_bytes, self.stream)

    def download(self, target: int, address: int, size_bytes: int) -> None:
        """Device to host, in stream order."""
        self._call(self.api.cuMemcpyDtoHAsync, target, address, size_bytes, self.stream)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, rows: int
    ) -> None:
        """Rows of `width` bytes from device to device, in stream order."""
        copy = self.api.CUDA_MEMCPY2D()
        memory = self.api.CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy.srcMemoryType = copy.dstMemoryType = memory
        copy.srcDevice, copy.srcPitch = source, source_pitch
        copy.dstDevice, copy.dstPitch = target, target_pitch
        copy.WidthInBytes, copy.Height = width, rows
        self._call(self.api.cuMemcpy2DAsync, copy, self.stream)

    def load(self, cubin: bytes, entry: str, shared_size_bytes: int) -> Any:
        """A kernel of a cubin, allowed its shared memory.

        Raises:
            EnvironmentMismatchError: the driver refuses it (older than the cubin, other device).
        """
        try:
            module = self._call(self.api.cuModuleLoadData, cubin)
            function = self._call(self.api.cuModuleGetFunction, module, entry.encode())
        except InfoptError as error:
            raise EnvironmentMismatchError(
                f"the driver does not take kernel {entry}: {error.what}",
                fix="a newer driver, or an engine built for this GPU",
            ) from None
        if shared_size_bytes > _STATIC_SHARED_LIMIT_BYTES:
            kind = self.api.CUfunction_attribute
            limit = kind.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call(self.api.cuFuncSetAttribute, function, limit, shared_size_bytes)
        self.ask_for(function, self.shared_percent)
        return function

    def ask_for(self, function: Any, shared_percent: int) -> None:
        """Lets a kernel ask for such a share from its next launch, or captured launch, on."""
        share = self.api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
        self._call(self.api.cuFuncSetAttribute, function, share, shared_percent)

    def launch(
        self,
        function: Any,
        programs: int,
        threads: int,
        shared_size_bytes: int,
        addresses: Sequence[int],
        *,
        ahead: bool,
        together: bool = False,
    ) -> None:
        """Queues a kernel whose parameters are addresses.

        Args:
            ahead: it may start before its predecessor ends.
            together: only with all its blocks at once (cooperative launch).

        Raises:
            EnvironmentMismatchError: the device does not hold that many blocks.
        """
        api = self.api
        config = api.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = programs, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes, config.hStream = shared_size_bytes, self.stream
        attributes = []
        if ahead:
            attribute = api.CUlaunchAttribute()
            attribute.id = (
                api.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            )
            attribute.value.programmaticStreamSerializationAllowed = 1
            attributes.append(attribute)
        if together:
            attribute = api.CUlaunchAttribute()
            attribute.id = api.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
            attribute.value.cooperative = 1
            attributes.append(attribute)
        config.numAttrs, config.attrs = len(attributes), attributes
        values = [ctypes.c_void_p(address) for address in addresses]
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
        error = api.cuLaunchKernelEx(config, function, ctypes.addressof(pointers), 0)[0]
        if int(error) == _TOO_LARGE:
            raise EnvironmentMismatchError(
                f"the GPU does not hold {programs} blocks of {threads} threads at once",
                fix="an engine planned for this GPU",
            )
        if int(error) != 0:
            raise InfoptError(f"cuLaunchKernelEx: {error.name}")
        del values  # alive until here: `pointers` points at them

    def capture(self, body: Callable[[], None], *, is_relaxed: bool = False) -> Any:
        """What `body` queues, as an executable graph.

        Args:
            is_relaxed: libraries that queue it may take memory meanwhile.
        """
        modes = self.api.CUstreamCaptureMode
        mode = modes.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        if is_relaxed:
            mode = modes.CU_STREAM_CAPTURE_MODE_RELAXED
        self._call(self.api.cuStreamBeginCapture, self.stream, mode)
        try:
            body()
        finally:
            ended = self.api.cuStreamEndCapture(self.stream)
        if int(ended[0]) != 0:
            raise InfoptError(f"cuStreamEndCapture: {ended[0].name}")
        graph = self._call(self.api.cuGraphInstantiate, ended[1], 0)
        self._call(self.api.cuGraphUpload, graph, self.stream)
        self.synchronize()
        return graph

    def release(self, graph: Any) -> None:
        """Forgets an executable graph."""
        self._call(self.api.cuGraphExecDestroy, graph)

    def replay(self, graph: Any) -> None:
        """Queues a graph."""
        error = self.api.cuGraphLaunch(graph, self.stream)[0]
        if int(error) != 0:
            raise InfoptError(f"cuGraphLaunch: {error.name}")

    def is_done(self) -> bool:
        """Whether everything queued is done.

        Raises:
            InfoptError: a kernel failed.
        """
        error = self.api.cuStreamQuery(self.stream)[0]
        if int(error) == 0:
            return True
        if int(error) != _NOT_READY:
            raise InfoptError(f"cuStreamQuery: {error.name}")
        return False

    def synchronize(self) -> None:
        """Waits until everything queued is done."""
        self._call(self.api.cuStreamSynchronize, self.stream)
