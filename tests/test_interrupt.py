"""Ctrl-C and SIGTERM at any moment: exit 130, nothing half-written, nobody left, resumable."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from planner import pipeline
from planner.spec.io import read_plan, write_plan
from tests.endtoend import Ended, Workshop, environment, mlp, save, start

PLAN = ("plan", "m.onnx", "--max-error", "0.05", "--formats", "int8_dynamic")


class User:
    """A folder with a model, a cache that outlives interruptions, and a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.folder, self.cache, self.scratch = root / "user", root / "cache", root / "tmp"
        for folder in (self.folder, self.scratch):
            folder.mkdir()
        self.env = environment(self.cache, TMPDIR=str(self.scratch))
        save(mlp(32), self.folder / "m.onnx")

    def names(self) -> set[str]:
        return {entry.name for entry in self.folder.iterdir()}

    def measured(self) -> dict[str, str]:
        """Key -> payload of everything in the store."""
        path = self.cache / "store-v1.sqlite"
        if not path.exists():
            return {}
        with contextlib.closing(sqlite3.connect(path)) as store:
            assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return dict(store.execute("SELECT key, payload FROM measurements"))

    def interrupt(
        self, arguments: tuple[str, ...], stage: str, wait_s: float, number: int, whole: bool
    ) -> Ended:
        """Starts the command, waits for a stage and a little longer, sends the signal.

        `whole`: to every process, as a terminal does on Ctrl-C; else to the command alone.
        """
        started = start(arguments, self.folder, self.env)
        said = _read_until(started, stage)
        time.sleep(wait_s)
        if whole:
            os.killpg(started.pid, number)
        else:
            started.send_signal(number)
        sent_at_s = time.monotonic()
        out, err = started.communicate(timeout=60)
        assert time.monotonic() - sent_at_s < 10
        _expect_alone(started.pid)
        return Ended(started.returncode, out, said + err)


def _read_until(started: subprocess.Popen[str], stage: str) -> str:
    assert started.stderr is not None
    said = ""
    for line in started.stderr:
        said += line
        if line.startswith(stage):
            break
    return said


def _expect_alone(group: int) -> None:
    """No process of the command's group is left, after a moment to die in."""
    for _ in range(50):
        if not list(_members(group)):
            return
        time.sleep(0.05)
    raise AssertionError(f"left behind: {list(_members(group))}")


def _members(group: int) -> Iterator[list[str]]:
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                yield process.cmdline()


def _expect_interrupted(user: User, ended: Ended, names: set[str]) -> None:
    assert ended.code == 130, ended.err
    assert ended.err.count("interrupted; what was measured is kept, a rerun continues") == 1
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert user.names() == names
    assert list(user.scratch.iterdir()) == []
    assert not [path for path in user.cache.rglob("*") if ".making-" in path.name]


MOMENTS = (
    ("load", 0.05, signal.SIGINT, True),
    ("simplify", 0.4, signal.SIGTERM, False),
    ("profile", 0.3, signal.SIGTERM, False),
    ("whole runs", 0.9, signal.SIGINT, False),
    ("sensitivity", 0.1, signal.SIGINT, True),
    ("guard", 1.5, signal.SIGTERM, False),
)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    return User(tmp_path_factory.mktemp("interrupt"))


@pytest.mark.parametrize(("stage", "wait_s", "number", "whole"), MOMENTS)
def test_plan(user: User, stage: str, wait_s: float, number: int, whole: bool) -> None:
    """In order, on one cache: every run goes further than the one before, and forgets nothing."""
    before = user.measured()
    ended = user.interrupt(PLAN, stage, wait_s, number, whole)
    _expect_interrupted(user, ended, {"m.onnx"})
    after = user.measured()
    assert {key: after.get(key) for key in before} == before


def test_a_rerun_ends_and_keeps_what_was_measured(user: User) -> None:
    before = user.measured()
    assert before
    started = start([*PLAN, "-q"], user.folder, user.env)
    _, err = started.communicate(timeout=120)
    assert started.returncode == 0, err
    after = user.measured()
    assert {key: after[key] for key in before} == before
    assert read_plan(user.folder / "plan.json").model.path == "m.onnx"
    assert list(user.scratch.iterdir()) == []
    _expect_alone(started.pid)


@pytest.mark.parametrize(
    ("stage", "wait_s", "number"),
    [
        ("build", 0.1, signal.SIGTERM),
        ("golden", 0.05, signal.SIGINT),
        ("measure", 0.5, signal.SIGTERM),
    ],
)
def test_deploy(workshop: Workshop, tmp_path: Path, stage: str, wait_s: float, number: int) -> None:
    user = User(tmp_path)
    write_plan(user.folder / "plan.json", workshop.plan("mlp"))
    ended = user.interrupt(("deploy", "plan.json", "--no-serve"), stage, wait_s, number, False)
    built = {"engine"} if stage == "measure" else set()
    _expect_interrupted(user, ended, {"m.onnx", "plan.json", *built})


def test_an_old_engine_survives_an_interrupted_build(workshop: Workshop, tmp_path: Path) -> None:
    user = User(tmp_path)
    engine = user.folder / "engine"
    with workshop.quick():
        pipeline.build(workshop.plan("mlp"), engine)
    before = {path: path.read_bytes() for path in engine.rglob("*") if path.is_file()}
    write_plan(user.folder / "plan.json", workshop.plan("mlp", slo="5s"))
    deploy = ("deploy", "plan.json", "--no-serve")
    ended = user.interrupt(deploy, "golden", 0.0, signal.SIGINT, True)
    _expect_interrupted(user, ended, {"m.onnx", "plan.json", "engine"})
    assert {path: path.read_bytes() for path in engine.rglob("*") if path.is_file()} == before
