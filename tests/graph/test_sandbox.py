"""A sandboxed call returns, refuses, or is ended; never hangs and never takes us along."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from planner.errors import EnvironmentMismatchError, ModelError
from planner.graph.sandbox import Bounds, LimitError, Sandbox

_QUICK = Bounds(wall_s=1.0)


def _double(number: int) -> int:
    print("printing must not garble the answer")
    return 2 * number


def _refuse() -> None:
    raise ModelError("bad", where="here", fix="do better")


def _break() -> None:
    raise KeyError("surprise")


def _sleep() -> None:
    time.sleep(60)


def _devour(size_bytes: int) -> int:
    return int(np.zeros(size_bytes, np.uint8).sum())


def _abort() -> None:
    os.abort()


def test_an_answer_comes_back_whatever_is_printed() -> None:
    assert Sandbox("doubling", "f").call(_double, 21) == 42


def test_a_refusal_keeps_its_fields() -> None:
    with pytest.raises(ModelError) as caught:
        Sandbox("refusing", "f").call(_refuse)
    assert (caught.value.what, caught.value.where, caught.value.fix) == ("bad", "here", "do better")


def _lack_memory() -> None:
    raise EnvironmentMismatchError("not enough memory")


def test_a_refusal_stays_of_its_kind() -> None:
    with pytest.raises(EnvironmentMismatchError, match="not enough memory"):
        Sandbox("refusing", "f").call(_lack_memory)


def test_an_unforeseen_exception_names_the_task() -> None:
    with pytest.raises(ModelError, match="breaking failed: KeyError: 'surprise'"):
        Sandbox("breaking", "f").call(_break)


def test_a_hang_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(LimitError, match="sleeping did not finish within 1 s"):
        Sandbox("sleeping", "f", _QUICK).call(_sleep)
    assert time.monotonic() - start < 20


def test_memory_is_capped() -> None:
    bounds = Bounds(memory_size_bytes=2**30)
    with pytest.raises(LimitError, match="devouring needs more than 1 GiB of memory"):
        Sandbox("devouring", "f", bounds).call(_devour, 2**33)


def test_a_crash_is_told_with_its_signal() -> None:
    with pytest.raises(LimitError, match=r"aborting crashed \(SIGABRT\)"):
        Sandbox("aborting", "model.onnx").call(_abort)


def test_the_working_directory_is_no_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert Sandbox("doubling", "f").call(_double, 1) == 2


def test_bounds_grow_with_the_model() -> None:
    small, large = Bounds().for_size(0), Bounds().for_size(2**30)
    assert large.memory_size_bytes - small.memory_size_bytes == 8 * 2**30
    assert large.wall_s - small.wall_s == pytest.approx(60.0)
