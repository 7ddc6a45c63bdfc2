"""A loop is one kernel where a device holds all its blocks, else the launches it stands for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.errors import EnvironmentMismatchError, VerificationError
from planner.runtime.fused import manifest as manifests
from planner.runtime.fused.binaries import choose
from planner.runtime.fused.loops import described, steps_of
from planner.runtime.fused.manifest import (
    Argument,
    Binary,
    Bucket,
    FileDigest,
    FusedManifest,
    Launch,
    Loop,
    Refusal,
    Slot,
)
from planner.runtime.fused.session import load
from tests.runtime.fake_cuda import FakeDriver, install

_STEPS, _BLOCKS = 3, 100
_X = np.arange(4, dtype=np.float32)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    return install(monkeypatch)


def _launch(kernel: str, source: int, target: int, *makes: str, blocks: int = 3) -> Launch:
    arguments = Argument("arena", source), Argument("arena", target)
    return Launch(kernel, blocks, arguments, makes, together=kernel == "rolled")


def _binary(kernel: str, architecture: int) -> Binary:
    file = f"sm_{architecture}/{kernel}.cubin"
    return Binary(kernel, architecture, file, kernel, 128, 0, 32, 0, 99, kernel == "step")


def looped_engine(folder: Path, *, without: dict[int, str] | None = None) -> FusedManifest:
    """x, doubled; then three steps that double, of which the stand-in's loop does only one: so
    that answers tell which of the two ran."""
    refused = without or {}
    binaries = tuple(
        _binary(kernel, architecture)
        for architecture in (80, 89, 90)
        for kernel in ("first", "rolled", "step")
        if kernel != "rolled" or architecture not in refused
    )
    data = {item.file: item.kernel.encode() for item in binaries} | {manifests.WEIGHTS: b""}
    for file, held in data.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(held)
    told = tuple(Refusal(architecture, refused[architecture]) for architecture in sorted(refused))
    steps = _launch("step", 256, 512, "a", "b", "c")
    bucket = Bucket(
        "default",
        (Slot("x", "float32", (4,), 0, 16),),
        (Slot("y", "float32", (4,), 1024, 16),),
        2048,
        (
            _launch("first", 0, 256, "h"),
            _launch("rolled", 256, 1024, "a", "b", "c", blocks=_BLOCKS),
        ),
        (Loop(1, _STEPS, steps, (256, 256), told),),
    )
    files = tuple(
        FileDigest(file, len(held), hashlib.sha256(held).hexdigest()) for file, held in data.items()
    )
    made = FusedManifest(manifests.VERSION, "a compiler", (bucket,), 0, binaries, files)
    (folder / manifests.FILE).write_text(made.text())
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = looped_engine(tmp_path, without={80: "it spills"})
    assert manifests.read(tmp_path) == made
    assert made.needed_kernels == {"first", "step"}
    assert made.loop_kernels == {"rolled"}


def test_a_device_with_room_runs_the_loop(fake: FakeDriver, tmp_path: Path) -> None:
    looped_engine(tmp_path)
    with load(tmp_path) as session:
        np.testing.assert_array_equal(session.run({"x": _X})["y"], 4 * _X)
        assert session.loops_text == ("3 steps as one loop of 100 blocks",)
    assert set(fake.functions) == {b"first", b"rolled"}
    assert b"step" not in fake.loaded


@pytest.mark.parametrize(
    ("units", "blocks_a_unit", "is_cooperative", "reason"),
    [
        (58, 1, True, "100 blocks wait for each other, the GPU holds 58 at once"),
        (132, 0, True, "100 blocks wait for each other, the GPU holds 0 at once"),
        (132, 1, False, "no cooperative launch"),
    ],
)
def test_a_device_without_room_runs_its_launches(
    fake: FakeDriver,
    tmp_path: Path,
    units: int,
    blocks_a_unit: int,
    is_cooperative: bool,
    reason: str,
) -> None:
    fake.units, fake.blocks_a_unit, fake.is_cooperative = units, blocks_a_unit, is_cooperative
    looped_engine(tmp_path)
    with load(tmp_path) as session:
        np.testing.assert_array_equal(session.run({"x": _X})["y"], 16 * _X)
        (text,) = session.loops_text
        assert text.startswith("3 steps as launches: ")
        assert reason in text
        assert set(session.kernel_us(2)) == {"first", "step"}
    assert b"rolled" not in fake.functions


def test_a_loop_that_lost_runs_as_launches(fake: FakeDriver, tmp_path: Path) -> None:
    looped_engine(tmp_path)
    with load(tmp_path, apart={"rolled": "it is slower"}) as session:
        np.testing.assert_array_equal(session.run({"x": _X})["y"], 16 * _X)
        assert session.loops_text == ("3 steps as launches: it is slower",)
    assert b"rolled" not in fake.loaded


def test_the_smallest_device_that_holds_all_blocks(fake: FakeDriver, tmp_path: Path) -> None:
    looped_engine(tmp_path)
    for units, blocks_a_unit, is_loop in ((50, 2, True), (49, 2, False), (99, 1, False)):
        fake.units, fake.blocks_a_unit = units, blocks_a_unit
        with load(tmp_path) as session:
            assert [not way.refusal for way in session.loops] == [is_loop]


def test_an_architecture_without_the_loop_takes_no_other_one_for_it(
    fake: FakeDriver, tmp_path: Path
) -> None:
    made = looped_engine(tmp_path, without={89: "as a loop they spill 16 bytes a thread"})
    assert "rolled" not in choose(made, 89)
    assert choose(made, 86)["rolled"].architecture == 80
    assert "rolled" in choose(made, 90)
    fake.architecture = 89
    with load(tmp_path) as session:
        np.testing.assert_array_equal(session.run({"x": _X})["y"], 16 * _X)
        (text,) = session.loops_text
    assert "built so for sm_89: as a loop they spill 16 bytes" in text
    (line,) = described(made)
    assert "one loop on sm_80, sm_90 where its 100 blocks fit, else launches" in line
    assert "launches on sm_89 (as a loop they spill" in line


def test_an_architecture_without_its_launches_is_refused(tmp_path: Path) -> None:
    made = looped_engine(tmp_path)
    kept = tuple(b for b in made.binaries if (b.kernel, b.architecture) != ("step", 90))
    with pytest.raises(EnvironmentMismatchError, match="this GPU is sm_90"):
        choose(replace(made, binaries=kept), 90)


def test_steps_are_the_launches_they_stand_for(tmp_path: Path) -> None:
    (bucket,) = looped_engine(tmp_path).buckets
    assert steps_of(bucket.loops[0]) == [
        _launch("step", 256, 512, "a"),
        _launch("step", 512, 768, "b"),
        _launch("step", 768, 1024, "c"),
    ]


def test_an_engine_of_before_runs_where_its_loop_fits(fake: FakeDriver, tmp_path: Path) -> None:
    looped_engine(tmp_path)
    path = tmp_path / manifests.FILE
    held = json.loads(path.read_text())
    del held["buckets"][0]["loops"]
    path.write_text(json.dumps({**held, "version": 2}))
    with load(tmp_path) as session:
        np.testing.assert_array_equal(session.run({"x": _X})["y"], 4 * _X)
        assert session.loops_text == ()


@pytest.mark.parametrize(
    "change", [{"position": 2}, {"strides_bytes": [256]}, {"refused": [{}]}, {"steps": 0}]
)
def test_a_damaged_loop_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    looped_engine(tmp_path)
    path = tmp_path / manifests.FILE
    held = json.loads(path.read_text())
    held["buckets"][0]["loops"][0].update(change)
    path.write_text(json.dumps(held))
    with pytest.raises(VerificationError, match="damaged"):
        manifests.read(tmp_path)
