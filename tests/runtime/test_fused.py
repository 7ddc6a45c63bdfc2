"""Fused engines up to the driver: a stand-in for `cuda.bindings.driver` records what is asked."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from planner.errors import DataError, EngineHungError, EnvironmentMismatchError, UsageError
from planner.runtime.fused.binaries import choose
from planner.runtime.fused.dlpack import DeviceTensor
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.session import load
from tests.runtime.fake_cuda import FakeDriver, engine, install


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    return install(monkeypatch)


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
    with pytest.raises(EnvironmentMismatchError, match="needs 1 MiB on the GPU, 1000 B are free"):
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
