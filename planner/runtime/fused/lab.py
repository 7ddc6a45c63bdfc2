"""A GPU as something to be measured: its facts, events on its stream, kernels from CUDA source."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from planner.errors import EnvironmentMismatchError, InfoptError
from planner.runtime.fused.driver import DRIVERS_OWN, Driver


@dataclass(frozen=True, slots=True)
class Facts:
    """What the driver says of a device."""

    title: str
    architecture: str
    """`sm_90`."""
    units: int
    """Streaming multiprocessors."""
    memory_size_bytes: int
    cache_size_bytes: int
    """L2."""
    shared_size_bytes: int
    """Shared memory of a multiprocessor."""
    clock_hz: float
    driver: str
    """CUDA version that the driver supports: `13.0`."""
    devices: int


class Lab(Driver):
    """The driver with what only measuring needs."""

    shared_percent = DRIVERS_OWN

    def facts(self) -> Facts:
        """Read once, from the driver."""
        api, kinds = self.api, self.api.CUdevice_attribute
        raw = self._call(api.cuDeviceGetName, 256, self.device)
        version = int(self._call(api.cuDriverGetVersion))
        return Facts(
            title=bytes(raw).split(b"\0")[0].decode(errors="replace").strip(),
            architecture=f"sm_{self.architecture}",
            units=self.attribute(kinds.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            memory_size_bytes=int(self._call(api.cuDeviceTotalMem, self.device)),
            cache_size_bytes=self.attribute(kinds.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE),
            shared_size_bytes=self.attribute(
                kinds.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
            ),
            clock_hz=self.attribute(kinds.CU_DEVICE_ATTRIBUTE_CLOCK_RATE) * 1e3,
            driver=f"{version // 1000}.{version % 1000 // 10}",
            devices=int(self._call(api.cuDeviceGetCount)),
        )

    def elapsed_us(
        self, body: Callable[[], None], before: Callable[[], None] | None = None
    ) -> float:
        """Device time of what `body` queues on this device's stream.

        Args:
            before: queues work that keeps the device busy until `body` has queued all of its own,
                so that the host's pace does not show.
        """
        start, end = (self._call(self.api.cuEventCreate, 0) for _ in range(2))
        try:
            if before is not None:
                before()
            self._call(self.api.cuEventRecord, start, self.stream)
            body()
            self._call(self.api.cuEventRecord, end, self.stream)
            self._call(self.api.cuEventSynchronize, end)
            return float(self._call(self.api.cuEventElapsedTime, start, end)) * 1e3
        finally:
            for event in (start, end):
                self._call(self.api.cuEventDestroy, event)

    def to_peer(self, target: int, other: Lab, source: int, size_bytes: int) -> None:
        """Copies from this device to another, in this stream's order."""
        self._call(
            self.api.cuMemcpyPeerAsync,
            target, other.context, source, self.context, size_bytes, self.stream,
        )  # fmt: skip

    def open_peer(self, other: Lab) -> bool:
        """Lets this device reach another's memory directly; False where there is no such way."""
        if not int(self._call(self.api.cuDeviceCanAccessPeer, self.device, other.device)):
            return False
        self.activate()
        error = self.api.cuCtxEnablePeerAccess(other.context, 0)[0]
        already = self.api.CUresult.CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED
        return error in (already, self.api.CUresult.CUDA_SUCCESS)

    def compile(self, source: str, entry: str) -> Any:
        """A kernel from CUDA C++ source.

        Raises:
            EnvironmentMismatchError: there is no NVRTC, or it refuses the source.
        """
        try:
            rtc: Any = importlib.import_module("cuda.bindings.nvrtc")
            created = rtc.nvrtcCreateProgram(source.encode(), b"probe.cu", 0, [], [])
        except (ImportError, RuntimeError) as error:
            raise EnvironmentMismatchError(
                f"NVRTC cannot be loaded: {error}", fix="pip install nvidia-cuda-nvrtc"
            ) from None
        program = created[1]
        options = [f"--gpu-architecture=sm_{self.architecture}".encode()]
        if int(rtc.nvrtcCompileProgram(program, len(options), options)[0]) != 0:
            log = b" " * int(rtc.nvrtcGetProgramLogSize(program)[1])
            rtc.nvrtcGetProgramLog(program, log)
            raise EnvironmentMismatchError(f"NVRTC: {log.decode(errors='replace').strip()[:300]}")
        image = b" " * int(rtc.nvrtcGetCUBINSize(program)[1])
        rtc.nvrtcGetCUBIN(program, image)
        try:
            return self.load(image, entry, 0)
        except InfoptError as error:
            raise EnvironmentMismatchError(error.what) from None
