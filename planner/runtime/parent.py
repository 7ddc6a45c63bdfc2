"""Processes that must not outlive whoever started them."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """The kernel kills this process when the thread that started it ends, even by `kill -9`.

    Linux only. Why it matters: a contestant of a race is stopped between its turns, and whoever is
    stopped never notices that nobody will ever wake it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
