"""Ranks whose driver is gone go too."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

_RANK = """
import socket, sys, time
from planner.runtime.ranks.orphan import follow
connection = socket.socket(fileno=int(sys.argv[1]))
follow(connection, 0.2)
print("follows", flush=True)
ends = time.monotonic() + float(sys.argv[2])
while time.monotonic() < ends:  # as a library that polls for a rank that will not answer
    pass
"""


def _rank(connection: socket.socket, busy_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _RANK, str(connection.fileno()), str(busy_s)]
    started = subprocess.Popen(
        command, pass_fds=[connection.fileno()], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "follows\n"
    return started


def test_a_busy_rank_ends_when_its_driver_hangs_up() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with _rank(theirs, 60.0) as rank:
        theirs.close()
        time.sleep(0.5)
        assert rank.poll() is None
        ours.close()
        assert rank.wait(20) == 1


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_rank_stays_while_its_driver_is_there(is_silent: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, _rank(theirs, 1.0) as rank:
        theirs.close()
        if not is_silent:
            ours.send(b"a run")
        assert rank.wait(20) == 0
