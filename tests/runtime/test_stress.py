"""The stress of `benchmarks/gpu_engine.py` on the stand-in: differences are counted by words."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.small import stress
from planner.runtime.fused.session import load
from tests.runtime import fake_cuda

_FEEDS = {"x": np.arange(1, 5, dtype=np.float32)}


class Device(fake_cuda.FakeDriver):
    """Knows the comparing kernel, and may forget a kernel of the engine now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.forgets_every = 0
        self.doubled = 0

    def cuLaunchKernelEx(  # noqa: N802
        self, config: Any, function: Any, parameters: int, extra: int
    ) -> tuple[int]:
        pointers = ctypes.cast(parameters, ctypes.POINTER(ctypes.c_void_p))
        if function != b"differ":
            return super().cuLaunchKernelEx(config, function, parameters, extra)
        found, wanted, words, count = (
            ctypes.cast(pointers[i], ctypes.POINTER(ctypes.c_void_p))[0] for i in range(4)
        )
        self._do(lambda: _count(found or 0, wanted or 0, words or 0, count or 0))
        return (0,)

    def cuMemsetD8Async(self, at: int, value: int, size: int, stream: Any) -> tuple[int]:  # noqa: N802
        self._do(lambda: ctypes.memset(at, value, size))
        return (0,)

    def cuGraphLaunch(self, graph: Any, stream: Any) -> tuple[int]:  # noqa: N802
        self.doubled += 1
        skips = self.forgets_every and self.doubled % self.forgets_every == 0
        for position, work in enumerate(graph):
            if not (skips and position == 2):  # image, double, double, comparison
                work()
        return (0,)


def _count(found: int, wanted: int, words: int, count: int) -> None:
    a, b = ((ctypes.c_uint32 * words).from_address(at) for at in (found, wanted))
    number = sum(x != y for x, y in zip(a, b, strict=True))
    ctypes.c_uint64.from_address(count).value += number


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(fake_cuda, "FakeDriver", Device)
    made = fake_cuda.install(monkeypatch)
    assert isinstance(made, Device)
    return made


def test_replays_that_agree_pass(device: Device, tmp_path: Path) -> None:
    fake_cuda.engine(tmp_path)
    with load(tmp_path) as session:
        record = stress.stressed(session.first, _FEEDS, 50)
    assert record["passed"]
    assert record["a_planted_word_is_seen"]
    assert (record["replays"], record["differing_words"]) == (50, 0)
    assert record["words_compared_each"] == 512 // 4


def test_a_kernel_that_does_not_run_once_is_seen(device: Device, tmp_path: Path) -> None:
    fake_cuda.engine(tmp_path)
    with load(tmp_path) as session:
        device.forgets_every = device.doubled + 20
        record = stress.stressed(session.first, _FEEDS, 50)
    assert not record["passed"]
    assert record["differing_words"] > 0


def test_a_comparison_that_sees_nothing_does_not_pass(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cuda.engine(tmp_path)
    monkeypatch.setattr("tests.runtime.test_stress._count", lambda *_: None)
    with load(tmp_path) as session:
        record = stress.stressed(session.first, _FEEDS, 5)
    assert record["differing_words"] == 0
    assert not record["a_planted_word_is_seen"]
    assert not record["passed"]
