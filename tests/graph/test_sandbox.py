"""A sandboxed call returns, refuses, or is ended; never hangs and never takes us along."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from planner.errors import EnvironmentMismatchError, ModelError
from planner.graph.nursery import NURSERY
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


def _where() -> tuple[str, str, int]:
    return str(Path.cwd()), os.environ.get("INFOPT_TEST", ""), os.getpid()


def _crash_or_wait(seconds: float) -> int:
    if seconds < 0:
        os.abort()
    time.sleep(seconds)
    return os.getpid()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_call_is_a_process_of_its_own_and_sees_where_we_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Sandbox("looking", "f").call(_where)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFOPT_TEST", "changed")
    second = Sandbox("looking", "f").call(_where)
    assert second[:2] == (str(tmp_path), "changed") != first[:2]
    assert len({first[2], second[2], os.getpid()}) == 3
    assert not _is_running(first[2])


def test_calls_run_side_by_side_and_a_crash_is_only_its_own() -> None:
    with ThreadPoolExecutor(3) as pool:
        slow = pool.submit(Sandbox("waiting", "f").call, _crash_or_wait, 1.0)
        crash = pool.submit(Sandbox("crashing", "f").call, _crash_or_wait, -1.0)
        quick = pool.submit(Sandbox("waiting", "f").call, _crash_or_wait, 0.0)
        assert quick.result() > 0
        assert isinstance(crash.exception(), LimitError)
        assert not slow.done(), "an answer must not wait for the calls beside it"
        assert slow.result() != quick.result()


def test_large_requests_and_answers_arrive_whole() -> None:
    values = np.arange(3 << 20)
    assert np.array_equal(Sandbox("adding", "f").call(np.add, values, 1), values + 1)


def test_after_a_rest_or_a_sudden_death_calls_go_on() -> None:
    assert Sandbox("doubling", "f").call(_double, 1) == 2
    NURSERY.rest()
    assert Sandbox("doubling", "f").call(_double, 2) == 4
    process = NURSERY._process
    assert process is not None
    process.kill()
    process.wait()
    assert Sandbox("doubling", "f").call(_double, 3) == 6


def test_what_nobody_waits_for_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(
        "import psutil, threading, time\n"
        "from planner.graph.sandbox import Sandbox\n"
        "threading.Thread(target=Sandbox('s', 'f').call, args=(time.sleep, 600)).start()\n"
        "from planner.graph.nursery import NURSERY\n"
        "while NURSERY._process is None: time.sleep(0.01)\n"
        "while not psutil.Process(NURSERY._process.pid).children(): time.sleep(0.01)\n"
        "print(NURSERY._process.pid, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    ) as planner:
        assert planner.stdout is not None
        nursery = int(planner.stdout.readline())
        family = [nursery, *(p.pid for p in psutil.Process(nursery).children())]
        planner.kill()
    end = time.monotonic() + 5.0
    while any(psutil.pid_exists(pid) for pid in family) and time.monotonic() < end:
        time.sleep(0.01)
    assert len(family) == 2
    assert not any(psutil.pid_exists(pid) for pid in family)
