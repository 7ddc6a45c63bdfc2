"""Fused engines up to the driver: a stand-in for `cuda.bindings.driver` records what is asked."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from planner.errors import DataError, EngineHungError, EnvironmentMismatchError, UsageError
from planner.runtime.fused import manifest as manifests
from planner.runtime.fused.dlpack import DeviceTensor
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.manifest import (
    Argument,
    Binary,
    Bucket,
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
        self.recorded: list[Callable[[], object]] | None = None
        self.answers = True
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

    def cuMemHostAlloc(self, size_bytes: int, flags: int) -> tuple[Any, int]:  # noqa: N802
        return self.cuMemAlloc(size_bytes)

    def cuMemGetInfo(self) -> tuple[int, int, int]:  # noqa: N802
        return 0, self.memory_limit_bytes, 1 << 30

    def _move(self, target: int, source: int, size: int, stream: Any) -> tuple[int]:
        self._do(lambda: ctypes.memmove(target, source, size))
        return (0,)

    cuMemcpyHtoDAsync = cuMemcpyDtoHAsync = cuMemcpyDtoDAsync = _move  # noqa: N815

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

    def cuLaunchKernelEx(  # noqa: N802
        self, config: Any, function: Any, parameters: int, extra: int
    ) -> tuple[int]:
        pointers = ctypes.cast(parameters, ctypes.POINTER(ctypes.c_void_p))
        values = [ctypes.cast(pointers[i], ctypes.POINTER(ctypes.c_void_p))[0] for i in range(2)]
        source, target = values
        self._do(lambda: _double(source, target))
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


def _double(source: Any, target: Any) -> None:
    values = (ctypes.c_float * 4).from_address(source)
    for i in range(4):
        (ctypes.c_float * 4).from_address(target)[i] = 2 * values[i]


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


def test_a_call_goes_in_through_the_graph_and_out(fake: FakeDriver, tmp_path: Path) -> None:
    engine(tmp_path)
    with load(tmp_path) as session:
        x = np.arange(4, dtype=np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], 4 * x)
    assert fake.launched[:2] == [(3, False, 128), (3, True, 128)]
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


def test_a_gpu_that_hangs_is_not_asked_again(fake: FakeDriver, tmp_path: Path) -> None:
    engine(tmp_path)
    with load(tmp_path, timeout_s=0.01) as session:
        x = np.arange(4, dtype=np.float32)
        session.run({"x": x})
        health = [session.is_healthy]
        fake.answers = False
        with pytest.raises(EngineHungError, match=r"within 0.01 s\n.*restart the process"):
            session.run({"x": x})
        health.append(session.is_healthy)
        fake.answers = True
        with pytest.raises(EngineHungError, match="in an earlier call"):
            session.run({"x": x})
    assert health == [True, False]


def test_device_tensors_go_in_and_out_without_the_host(fake: FakeDriver, tmp_path: Path) -> None:
    engine(tmp_path)
    held = np.arange(4, dtype=np.float32)
    given = DeviceTensor(held.ctypes.data, (4,), "float32", 0, lambda address: None)
    with load(tmp_path) as session:
        made = session.run_on_device({"x": given})["y"]
        again = session.run_on_device({"x": made})["y"]
        with pytest.raises(DataError, match="lies on device 1"):
            session.run_on_device(
                {"x": DeviceTensor(held.ctypes.data, (4,), "float32", 1, lambda address: None)}
            )
    found = (ctypes.c_float * 4).from_address(again.address)
    assert list(found) == [0, 16, 32, 48]
    assert again.shape == (4,)
    assert again.dtype == np.dtype("float32")
    assert again.__dlpack_device__() == (2, 0)


def test_what_nobody_takes_of_a_device_tensor_is_freed() -> None:
    freed: list[int] = []
    tensor = DeviceTensor(4096, (2, 3), "float16", 0, freed.append)
    capsule = tensor.__dlpack__()
    del tensor
    assert freed == []
    del capsule
    assert freed == [4096]


def test_many_threads_share_few_copies(fake: FakeDriver, tmp_path: Path) -> None:
    engine(tmp_path)
    wrong: list[int] = []
    with load(tmp_path, copies=3) as session:

        def call(number: int) -> None:
            x = np.full(4, number, np.float32)
            for _ in range(50):
                if not np.array_equal(session.run({"x": x})["y"], 4 * x):
                    wrong.append(number)

        threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


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
    with pytest.raises(
        EnvironmentMismatchError, match="needs 1,048,576 bytes on the GPU, 1,000 are free"
    ):
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
