"""A stand-in for `cuda.bindings.driver`, and an engine that it can run."""

from __future__ import annotations

import ctypes
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from planner.runtime.fused import manifest as manifests
from planner.runtime.fused.manifest import (
    Argument,
    Binary,
    Bucket,
    FileDigest,
    FusedManifest,
    Launch,
    Slot,
)

SM = 90


class FakeDriver(ModuleType):
    """Memory is host memory; a launch of `double` really doubles four floats."""

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.memory: dict[int, Any] = {}
        self.launched: list[tuple[Any, bool, int]] = []
        self.recorded: list[Callable[[], object]] | None = None
        self.answers = True
        self.loads_fail = False
        self.memory_limit_bytes = 1 << 30
        self.architecture, self.units, self.blocks_a_unit = SM, 132, 1
        self.is_cooperative = True
        self.doublings: dict[bytes, int] = {}
        """Kernel -> how often a launch of it doubles; 1 where not named."""
        self.delays_s: dict[bytes, float] = {}
        self.functions: list[bytes] = []
        self.loaded: list[bytes] = []
        names = SimpleNamespace
        self.CUdevice_attribute = names(
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
            CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT="units",
            CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH="cooperative",
        )
        self.CUstream_flags = names(CU_STREAM_NON_BLOCKING=1)
        self.CUfunction_attribute = names(
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="shared",
            CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT="share",
        )
        self.shares: list[int] = []
        """What each kernel asked for when it was loaded, in order."""
        self.CUlaunchAttributeID = names(
            CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION=6,
            CU_LAUNCH_ATTRIBUTE_COOPERATIVE=2,
        )
        self.CUstreamCaptureMode = names(
            CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1, CU_STREAM_CAPTURE_MODE_RELAXED=2
        )
        self.CUmemorytype = names(CU_MEMORYTYPE_DEVICE=2)
        self.CUDA_MEMCPY2D = SimpleNamespace
        self.CUlaunchConfig = SimpleNamespace
        self.CUlaunchAttribute = lambda: names(value=names())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            return (0, 7)

        call.__name__ = name
        return call

    def cuDeviceGetAttribute(self, kind: str, device: Any) -> tuple[int, int]:  # noqa: N802
        known = {
            "major": self.architecture // 10,
            "minor": self.architecture % 10,
            "units": self.units,
            "cooperative": int(self.is_cooperative),
        }
        return 0, known[kind]

    def cuFuncSetAttribute(self, function: Any, kind: str, value: int) -> tuple[int]:  # noqa: N802
        if kind == "share":
            self.shares.append(value)
        return (0,)

    def cuOccupancyMaxActiveBlocksPerMultiprocessor(  # noqa: N802
        self, function: Any, threads: int, shared_size_bytes: int
    ) -> tuple[int, int]:
        return 0, self.blocks_a_unit

    def cuMemAlloc(self, size_bytes: int) -> tuple[Any, int]:  # noqa: N802
        if size_bytes > self.memory_limit_bytes:
            return Error("CUDA_ERROR_OUT_OF_MEMORY"), 0
        held = ctypes.create_string_buffer(size_bytes)
        self.memory[ctypes.addressof(held)] = held
        return 0, ctypes.addressof(held)

    def cuMemHostAlloc(self, size_bytes: int, flags: int) -> tuple[Any, int]:  # noqa: N802
        return self.cuMemAlloc(size_bytes)

    def cuMemFree(self, address: int) -> tuple[int]:  # noqa: N802
        del self.memory[address]
        return (0,)

    cuMemFreeHost = cuMemFree  # noqa: N815

    def cuMemGetInfo(self) -> tuple[int, int, int]:  # noqa: N802
        return 0, self.memory_limit_bytes, 1 << 30

    def _move(self, target: int, source: int, size: int, stream: Any) -> tuple[int]:
        self._do(lambda: ctypes.memmove(target, source, size))
        return (0,)

    cuMemcpyHtoDAsync = cuMemcpyDtoHAsync = cuMemcpyDtoDAsync = _move  # noqa: N815

    def cuMemsetD8Async(  # noqa: N802
        self, target: int, value: int, size: int, stream: Any
    ) -> tuple[int]:
        self._do(lambda: ctypes.memset(target, value, size))
        return (0,)

    def cuMemcpy2DAsync(self, copy: Any, stream: Any) -> tuple[int]:  # noqa: N802
        def rows() -> None:
            for row in range(copy.Height):
                target = copy.dstDevice + row * copy.dstPitch
                ctypes.memmove(target, copy.srcDevice + row * copy.srcPitch, copy.WidthInBytes)

        self._do(rows)
        return (0,)

    def _do(self, work: Callable[[], object]) -> None:
        """Now, or at each replay of what is being captured."""
        if self.recorded is None:
            work()
        else:
            self.recorded.append(work)

    def cuStreamQuery(self, stream: Any) -> tuple[int]:  # noqa: N802
        return (0 if self.answers else 600,)

    def cuModuleLoadData(self, cubin: bytes) -> tuple[Any, Any]:  # noqa: N802
        return (Error("CUDA_ERROR_UNSUPPORTED_PTX_VERSION") if self.loads_fail else 0), cubin

    def cuModuleGetFunction(self, module: Any, entry: bytes) -> tuple[Any, bytes]:  # noqa: N802
        self.loaded.append(entry)
        return 0, entry

    def cuLaunchKernelEx(  # noqa: N802
        self, config: Any, function: Any, parameters: int, extra: int
    ) -> tuple[int]:
        pointers = ctypes.cast(parameters, ctypes.POINTER(ctypes.c_void_p))
        count = 3 if function == b"copy" else 2
        values = [
            ctypes.cast(pointers[i], ctypes.POINTER(ctypes.c_void_p))[0] for i in range(count)
        ]
        if function == b"copy":
            source, target, words = values
            self._do(lambda: ctypes.memmove(target, source, 16 * words))
            return (0,)
        self.functions.append(function)
        source, target = values
        times = self.doublings.get(function, 1)
        self._do(lambda: _double(source, target, times, self.delays_s.get(function, 0.0)))
        self.launched.append((config.gridDimX, config.numAttrs > 0, config.blockDimX))
        return (0,)

    def cuStreamBeginCapture(self, stream: Any, mode: Any) -> tuple[int]:  # noqa: N802
        self.recorded = []
        return (0,)

    def cuStreamEndCapture(self, stream: Any) -> tuple[int, Any]:  # noqa: N802
        recorded, self.recorded = self.recorded, None
        return 0, recorded

    def cuGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:  # noqa: N802
        return 0, graph

    def cuGraphLaunch(self, graph: Any, stream: Any) -> tuple[int]:  # noqa: N802
        for work in graph:
            work()
        return (0,)


def _double(source: Any, target: Any, times: int, delay_s: float) -> None:
    time.sleep(delay_s)
    values = (ctypes.c_float * 4).from_address(source)
    for i in range(4):
        (ctypes.c_float * 4).from_address(target)[i] = 2**times * values[i]


class Error(int):
    """A CUresult that is not success."""

    name: str

    def __new__(cls, name: str) -> Error:
        made = super().__new__(cls, 2)
        made.name = name
        return made


def install(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """Puts the stand-in in the bindings' place."""
    module = FakeDriver()
    for name, value in (
        ("cuda", ModuleType("cuda")),
        ("cuda.bindings", ModuleType("cuda.bindings")),
        ("cuda.bindings.driver", module),
    ):
        monkeypatch.setitem(sys.modules, name, value)
    return module


def engine(folder: Path, *, architecture: int = SM, arena_size_bytes: int = 512) -> FusedManifest:
    """x -> double -> double -> y."""
    (folder / "sm_90").mkdir(parents=True)
    (folder / "sm_90" / "double.cubin").write_bytes(b"cubin")
    (folder / manifests.WEIGHTS).write_bytes(b"")
    files = tuple(
        FileDigest(path, len(data), hashlib.sha256(data).hexdigest())
        for path, data in (("sm_90/double.cubin", b"cubin"), (manifests.WEIGHTS, b""))
    )
    steps = ((0, 256), (256, 0))
    made = FusedManifest(
        manifests.VERSION,
        "a compiler",
        (
            Bucket(
                "default",
                (Slot("x", "float32", (4,), 0, 16),),
                (Slot("y", "float32", (4,), 0, 16),),
                arena_size_bytes,
                tuple(
                    Launch("double", 3, tuple(Argument("arena", at) for at in step), ("t",))
                    for step in steps
                ),
            ),
        ),
        0,
        (
            Binary(
                "double", architecture, "sm_90/double.cubin", "double", 128, 65536, 32, 0, 99, True
            ),
        ),
        files,
    )
    (folder / manifests.FILE).write_text(made.text())
    return made
