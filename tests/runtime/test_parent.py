"""Nobody outlives a killed planner, not even who was stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

_CHILD = """
import os, signal
from planner.runtime.parent import die_with_parent
die_with_parent()
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
_PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline(), end="", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_a_stopped_child_of_a_killed_parent_dies() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PARENT, _CHILD], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    for _ in range(100):
        if not _is_alive(int(done.stdout)):
            return
        time.sleep(0.05)
    raise AssertionError("the child outlived its parent")


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
