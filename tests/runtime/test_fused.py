"""Fused engines up to the driver: a stand-in for `cuda.bindings.driver` records what is asked."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from planner.errors import DataError, EnvironmentMismatchError, UsageError
from planner.runtime.fused import manifest as manifests
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.manifest import (
    Argument,
    Binary,
    FileDigest,
    FusedManifest,
    Launch,
    Slot,
)
from planner.runtime.fused.session import choose, load

SM = 90


class FakeDriver(ModuleType):
    """Memory is host memory; a launch of `double` really doubles four floats."""

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.memory: dict[int, Any] = {}
        self.launched: list[tuple[Any, bool, int]] = []
        self.recorded: list[Any] | None = None
        self.loads_fail = False
        self.memory_limit_bytes = 1 << 30
        names = SimpleNamespace
        self.CUdevice_attribute = names(
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
        )
        self.CUstream_flags = names(CU_STREAM_NON_BLOCKING=1)
        self.CUfunction_attribute = names(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="shared")
        self.CUlaunchAttributeID = names(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION=6)
        self.CUstreamCaptureMode = names(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
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
        return 0, SM // 10 if kind == "major" else SM % 10

    def cuMemAlloc(self, size_bytes: int) -> tuple[Any, int]:  # noqa: N802
        if size_bytes > self.memory_limit_bytes:
            return Error("CUDA_ERROR_OUT_OF_MEMORY"), 0
        held = ctypes.create_string_buffer(size_bytes)
        self.memory[ctypes.addressof(held)] = held
        return 0, ctypes.addressof(held)

    def cuMemcpyHtoDAsync(self, target: int, source: int, size: int, stream: Any) -> tuple[int]:  # noqa: N802
        ctypes.memmove(target, source, size)
        return (0,)

    def cuMemcpyDtoHAsync(self, target: int, source: int, size: int, stream: Any) -> tuple[int]:  # noqa: N802
        ctypes.memmove(target, source, size)
        return (0,)

    def cuModuleLoadData(self, cubin: bytes) -> tuple[Any, Any]:  # noqa: N802
        return (Error("CUDA_ERROR_UNSUPPORTED_PTX_VERSION") if self.loads_fail else 0), cubin

    def cuLaunchKernelEx(  # noqa: N802
        self, config: Any, function: Any, parameters: int, extra: int
    ) -> tuple[int]:
        pointers = ctypes.cast(parameters, ctypes.POINTER(ctypes.c_void_p))
        values = [ctypes.cast(pointers[i], ctypes.POINTER(ctypes.c_void_p))[0] for i in range(2)]
        assert self.recorded is not None
        self.recorded.append(values)
        self.launched.append((config.gridDimX, config.numAttrs > 0, config.blockDimX))
        return (0,)

    def cuStreamBeginCapture(self, stream: Any, mode: Any) -> tuple[int]:  # noqa: N802
        self.recorded = []
        return (0,)

    def cuStreamEndCapture(self, stream: Any) -> tuple[int, Any]:  # noqa: N802
        return 0, self.recorded

    def cuGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:  # noqa: N802
        return 0, graph

    def cuGraphLaunch(self, graph: Any, stream: Any) -> tuple[int]:  # noqa: N802
        for source, target in graph:
            values = (ctypes.c_float * 4).from_address(source)
            for i in range(4):
                (ctypes.c_float * 4).from_address(target)[i] = 2 * values[i]
        return (0,)


class Error(int):
    """A CUresult that is not success."""

    name: str

    def __new__(cls, name: str) -> Error:
        made = super().__new__(cls, 2)
        made.name = name
        return made


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
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
        (Slot("x", "float32", (4,), 0, 16),),
        (Slot("y", "float32", (4,), 0, 16),),
        arena_size_bytes,
        0,
        tuple(
            Launch("double", 3, tuple(Argument("arena", at) for at in step), ("t",))
            for step in steps
        ),
        (
            Binary(
                "double", architecture, "sm_90/double.cubin", "double", 128, 65536, 32, 0, 99, True
            ),
        ),
        files,
    )
    (folder / manifests.FILE).write_text(made.text())
    return made


def test_a_call_goes_in_through_the_graph_and_out(fake: FakeDriver, tmp_path: Path) -> None:
    engine(tmp_path)
    with load(tmp_path) as session:
        x = np.arange(4, dtype=np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], 4 * x)
    assert fake.launched == [(3, False, 128), (3, True, 128)]
    with pytest.raises(UsageError, match="closed"):
        session.run({"x": x})


def test_inputs_that_do_not_fit_are_refused(fake: FakeDriver, tmp_path: Path) -> None:
    engine(tmp_path)
    with load(tmp_path) as session:
        with pytest.raises(DataError, match="input 'x': missing"):
            session.run({})
        with pytest.raises(DataError, match=r"got float64 \(4,\), expected float32 \(4,\)"):
            session.run({"x": np.zeros(4)})
        with pytest.raises(DataError, match="unknown input 'z'"):
            session.run({"x": np.zeros(4, np.float32), "z": np.zeros(1)})


def test_an_engine_for_another_gpu_is_refused(fake: FakeDriver, tmp_path: Path) -> None:
    engine(tmp_path, architecture=80)
    with pytest.raises(EnvironmentMismatchError, match=r"this GPU is sm_90, .* for sm_80"):
        load(tmp_path)


def test_a_later_gpu_of_the_same_family_runs_it(tmp_path: Path) -> None:
    made = engine(tmp_path, architecture=80)
    assert choose(made, 86)["double"].architecture == 80


def test_too_little_memory_and_an_old_driver_are_said(fake: FakeDriver, tmp_path: Path) -> None:
    engine(tmp_path, arena_size_bytes=1 << 20)
    fake.memory_limit_bytes = 1000
    with pytest.raises(EnvironmentMismatchError, match="no 1048576 bytes left"):
        load(tmp_path)
    fake.memory_limit_bytes, fake.loads_fail = 1 << 30, True
    with pytest.raises(EnvironmentMismatchError, match="does not take kernel double"):
        load(tmp_path)


def test_without_a_driver_the_machine_is_to_blame() -> None:
    with pytest.raises(EnvironmentMismatchError):
        Driver()


def test_the_runtime_of_fused_engines_is_light() -> None:
    code = "import planner.runtime.fused.session, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"triton", "torch", "onnx", "onnxruntime", "pydantic", "cuda", "scipy"}
