"""Loops against their launches: the faster one runs from then on, a wrong one never."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from planner.emit.engine import write_engine
from planner.errors import EngineHungError, EnvironmentMismatchError
from planner.runtime import engine as engines
from planner.runtime.fused.driver import SHARED_PERCENT
from planner.runtime.fused.loops import Way
from planner.runtime.fused.session import load, open_checked
from planner.runtime.integrity import read_manifest
from planner.runtime.selection import ExecutionPath, write_verified
from planner.spec.verified import SegmentTiming, Verified
from planner.steps.fused import loops
from planner.steps.fused.loops import Raced, apart_of, race, races
from tests.runtime import build, fake_cuda
from tests.runtime.fake_cuda import Error, FakeDriver
from tests.runtime.test_fused_engine import FOLDER, X, doubling
from tests.runtime.test_loops import looped_engine


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """Its loop does what its three steps do."""
    monkeypatch.setattr(loops, "_ROUNDS", 3)
    monkeypatch.setattr(loops, "_REPLAYS", 2)
    made = fake_cuda.install(monkeypatch)
    made.doublings = {b"rolled": 3}
    return made


def _raced(folder: Path) -> Raced:
    with load(folder) as session:
        (found,) = race(folder, session, [{"x": X}])
    return found


@pytest.mark.parametrize(("slow", "is_kept"), [(b"step", True), (b"rolled", False)])
def test_the_faster_one_runs(fake: FakeDriver, tmp_path: Path, slow: bytes, is_kept: bool) -> None:
    looped_engine(tmp_path)
    fake.delays_s = {slow: 2e-3}
    found = _raced(tmp_path)
    assert (found.loop_us < found.launches_us) is is_kept
    assert (apart_of([found]) == {}) is is_kept
    assert found.text.endswith("the loop runs" if is_kept else "its launches run")
    assert is_kept or found.refusal.endswith("(measured here)")


def test_a_wrong_loop_does_not_run_however_fast(fake: FakeDriver, tmp_path: Path) -> None:
    looped_engine(tmp_path)
    fake.doublings, fake.delays_s = {b"rolled": 2}, {b"step": 2e-3}
    found = _raced(tmp_path)
    assert found.is_wrong
    assert "answered otherwise" in apart_of([found])["rolled"]


def test_a_loop_that_does_not_fit_races_nobody(fake: FakeDriver, tmp_path: Path) -> None:
    fake.units = 1
    looped_engine(tmp_path)
    with load(tmp_path) as session:
        assert race(tmp_path, session, [{"x": X}]) == []


def test_a_loop_that_does_not_end_is_named(
    fake: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looped_engine(tmp_path)
    monkeypatch.setattr(loops, "open_checked", partial(open_checked, timeout_s=0.05))
    with load(tmp_path, timeout_s=0.05) as session:
        fake.answers = False
        with pytest.raises(EngineHungError, match=r"running a loop of 3 steps \(rolled\)") as told:
            race(tmp_path, session, [{"x": X}])
    assert 'path="library"' in str(told.value.fix)


class _Held:
    """A part with some loops, as large as a device has room for three of."""

    alive = most = 0
    shared_percent = SHARED_PERCENT

    def __init__(self, apart: Iterable[str] = ()) -> None:
        self.loops = tuple(Way("default", name, 3, 1) for name in "abcdef" if name not in apart)
        self.took_us = 2.0 + ("a" not in apart) - ("c" not in apart)
        self._is_open = True
        _Held.alive += 1
        _Held.most = max(_Held.most, _Held.alive)

    def replay_us(self, feeds: object, repeats: int) -> float:
        return self.took_us

    def close(self) -> None:
        _Held.alive -= self._is_open
        self._is_open = False

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_many_loops_take_no_more_memory_than_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what was given: the best one so far, and its rival."""
    monkeypatch.setattr(loops, "open_checked", lambda folder, apart, shared_percent: _Held(apart))
    monkeypatch.setattr(loops, "agree", lambda *_: True)
    given = _Held()
    found = race(Path(), given, [{}])  # type: ignore[arg-type]
    assert list(apart_of(found)) == ["a"]
    assert _Held.most == 3
    assert _Held.alive == 1  # what was given is its owner's


def test_what_is_timed_runs_on_its_own_inputs(fake: FakeDriver, tmp_path: Path) -> None:
    """Not on what a poisoned arena holds, where every look-up reads one row."""
    looped_engine(tmp_path)
    with load(tmp_path) as session:
        session.poison()
        session.replay_us({"x": X}, 2)
        held = (ctypes.c_float * 4).from_address(session.first.arena_address + 1024)
        np.testing.assert_array_equal(held, 16 * X)


def test_an_engine_that_does_not_load_holds_no_memory(
    fake: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every rival of a loop that does not fit would take some for good."""
    freed: list[int] = []

    def cuMemFree(address: int) -> tuple[int]:  # noqa: N802
        freed.append(address)
        return (0,)

    monkeypatch.setattr(fake, "cuMemFree", cuMemFree, raising=False)
    monkeypatch.setattr(fake, "cuMemFreeHost", cuMemFree, raising=False)
    looped_engine(tmp_path)
    fake.loads_fail = True
    with pytest.raises(EnvironmentMismatchError):
        load(tmp_path)
    assert sorted(freed) == sorted(fake.memory)
    fake.loads_fail = False
    monkeypatch.setattr(fake, "cuMemHostAlloc", lambda *_: (Error("CUDA_ERROR_OUT_OF_MEMORY"), 0))
    with pytest.raises(EnvironmentMismatchError, match="pinned"):
        load(tmp_path)
    assert sorted(freed) == sorted(fake.memory)


def test_where_memory_holds_one_engine_the_loop_stays(fake: FakeDriver, tmp_path: Path) -> None:
    looped_engine(tmp_path)
    with load(tmp_path) as session:
        fake.memory_limit_bytes = 1
        (found,) = race(tmp_path, session, [{"x": X}])
    assert "not timed beside its launches" in found.text
    assert not found.refusal


def test_an_engine_keeps_what_was_found(fake: FakeDriver, tmp_path: Path) -> None:
    """The whole engine: raced on what reaches the part, then loaded as it was found."""
    looped_engine(tmp_path / "kernels")
    made = replace(doubling(tmp_path), fused_path=tmp_path / "kernels", device="cuda")
    engine = tmp_path / "engine"
    write_engine(engine, replace(build.blueprint([made], {"x": X}), built_for="h200-sxm-141gb"))
    manifest = read_manifest(engine)
    fake.delays_s = {b"rolled": 5e-3}
    with engines.load(engine, path="fused") as session:
        raced = races(engine, manifest, session)
    apart = apart_of(raced[FOLDER])
    assert list(apart) == ["rolled"]
    timing = SegmentTiming(folder=FOLDER, choice="fused", apart=apart, shared_percent=25)
    found = Verified(
        manifest_digest=manifest.digest, device="7", architecture=90, driver=7, segments=(timing,)
    )
    write_verified(engine, found)
    for path, is_loop in (("verified", False), ("fused", True)):
        way: ExecutionPath = "fused" if path == "fused" else "verified"
        fake.shares.clear()
        with engines.load(engine, path=way) as session:
            assert set(fake.shares) == {SHARED_PERCENT if is_loop else 25}
            np.testing.assert_array_equal(session.run({"x": X})["y"], 16 * X)
            assert ("as one loop" in session.loops[0]) is is_loop
    with engines.load(engine, path="fused", apart={FOLDER: apart}) as session:
        assert "(measured here)" in session.loops[0]
