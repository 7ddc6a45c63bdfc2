"""What an interruption leaves behind in the interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time
from planner.cli import interrupts

interrupts.listen()
try:
    exec("os.kill(os.getpid(), signal.SIGINT); time.sleep(5)")  # as a dataclass does, while loading
except KeyboardInterrupt:
    pass
if "settle" in sys.argv:
    interrupts.settle()
sys.exit(130)
"""


@pytest.mark.parametrize("asked", [True, False])
def test_an_interruption_that_was_told_does_not_end_the_process(
    tmp_path: Path, asked: bool
) -> None:
    (tmp_path / "interrupted.py").write_text(SCRIPT)
    folder = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        [sys.executable, "-m", "interrupted", *(["settle"] if asked else [])],
        cwd=tmp_path,
        env={"PYTHONPATH": folder},
        check=False,
    )
    assert ended.returncode == 130 or (not asked and ended.returncode == -2)


TWICE = """
import os, signal, sys, time
from planner.cli import interrupts

def press():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)

interrupts.listen()
try:
    press()
except KeyboardInterrupt:
    press()                              # the key bounced: what is put in order goes on
    print("in order", flush=True)
    interrupts._asked_at_s -= interrupts.PATIENCE_S
    try:
        press()                          # somebody who has waited in vain
    except KeyboardInterrupt:
        print("asked again", flush=True)
interrupts.end(130)
press()                                  # while the interpreter ends
print("never")
"""


def test_a_key_pressed_twice_neither_tears_down_nor_shows_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(TWICE)
    folder = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        [sys.executable, "-m", "twice"],
        cwd=tmp_path, env={"PYTHONPATH": folder}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "in order\nasked again\n", "")
