"""The zygote: forks what it has loaded, buries what died, leaves nobody behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from planner.errors import EnvironmentMismatchError
from planner.profiling.forked import Forked, Zygote
from planner.spec.session import SessionSettings
from tests.profiling.build import perceptron, save


def _contestant(zygote: Zygote, folder: Path) -> Forked:
    model_path, feeds_path = save(folder, *perceptron())
    settings = SessionSettings(intra_op_threads=1).model_dump_json()
    return zygote.fork(str(model_path), settings, str(feeds_path), "engine")


def test_children_answer_over_channels_of_their_own(tmp_path: Path) -> None:
    with Zygote() as zygote:
        one, two = _contestant(zygote, tmp_path), _contestant(zygote, tmp_path)
        for child in (one, two):
            assert child.read_line(60.0) == "ready\n"
        one.send_line("2")
        assert "times_us" in one.read_line(60.0)
        with pytest.raises(TimeoutError):
            two.read_line(0.05)


def test_closing_a_child_waits_until_it_is_gone_even_while_it_is_stopped(tmp_path: Path) -> None:
    with Zygote() as zygote:
        child = _contestant(zygote, tmp_path)
        child.signal(signal.SIGSTOP)
        child.close()
        assert not psutil.pid_exists(child.pid)


def test_the_number_of_a_dead_child_stays_its_own_until_it_is_closed(tmp_path: Path) -> None:
    with Zygote() as zygote:
        child = _contestant(zygote, tmp_path)
        child.signal(signal.SIGKILL)
        assert child.read_line(60.0) in ("", "ready\n")
        _contestant(zygote, tmp_path).read_line(60.0)
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        child.signal(signal.SIGCONT)
        child.close()
        assert not psutil.pid_exists(child.pid)


def test_the_zygote_takes_its_children_with_it(tmp_path: Path) -> None:
    with Zygote() as zygote:
        pids = [_contestant(zygote, tmp_path).pid for _ in range(2)]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_dead_zygote_is_told_in_one_sentence(tmp_path: Path) -> None:
    with Zygote() as zygote:
        child = _contestant(zygote, tmp_path)
        os.kill(zygote._process.pid, signal.SIGKILL)
        zygote._process.wait()
        with pytest.raises(EnvironmentMismatchError, match="no process can be started"):
            _contestant(zygote, tmp_path)
        child.close()
