"""Workers answer like the function they are given, whatever the caller's script looks like."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from planner.errors import EnvironmentMismatchError, InfoptError
from planner.kernels.workers import Workers
from tests.kernels.run import needs_triton

SCRIPT = r"""
from planner.kernels.compile import compile_each
from planner.kernels.source import Kernel

print("once")
text = "import triton\n\n@triton.jit\ndef {}(AHEAD):\n    nonsense()\n"
nonsense = [Kernel(name, text.format(name), (), (), 1, 4, 1) for name in ("k0", "k1")]
print(compile_each(nonsense, 90, workers=2))
"""


@needs_triton
def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout) == (0, "once\n{}\n"), done.stderr


def test_answers_come_in_order_and_a_refusal_keeps_its_fields() -> None:
    with closing(Workers(2)) as workers:
        assert workers.map(math.factorial, range(20)) == [math.factorial(n) for n in range(20)]
        with pytest.raises(InfoptError) as caught:
            workers.map(_refuse, ["this"])
        assert (caught.value.what, caught.value.fix) == ("not this", "that")
        assert workers.map(abs, [-1]) == [1]


def test_what_is_printed_is_no_answer() -> None:
    with closing(Workers(1)) as workers:
        assert workers.map(print, ["printed"]) == [None]


def test_a_process_that_is_ended_from_outside_is_told_and_replaced() -> None:
    with closing(Workers(1)) as workers:
        with pytest.raises(EnvironmentMismatchError, match="was ended"):
            workers.map(_die, [signal.SIGKILL])
        assert workers.map(abs, [-1]) == [1]


def test_closing_waits_for_no_job(tmp_path: Path) -> None:
    workers, begun = Workers(1), tmp_path / "begun"
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(workers.map, _sleep, [begun])
        while not begun.exists():
            time.sleep(0.01)
        workers.close()
        assert isinstance(waiting.exception(timeout=60), EnvironmentMismatchError)


def _sleep(begun: Path) -> None:
    begun.touch()
    time.sleep(3600)


def _refuse(what: str) -> None:
    raise InfoptError(f"not {what}", fix="that")


def _die(how: int) -> None:
    os.kill(os.getpid(), how)
