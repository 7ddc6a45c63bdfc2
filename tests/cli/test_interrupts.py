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
