"""Ctrl-C and SIGTERM end a command in the same words, at whatever moment they come."""

from __future__ import annotations

import signal
from types import FrameType

TEXT = "interrupted; what was measured is kept, a rerun continues"
EXIT_CODE = 130

_asked = False


def listen() -> None:
    """Both signals raise KeyboardInterrupt from now on. Why not `Interrupted`: a library's
    `except Exception` would swallow it. Whoever had Ctrl-C ignored (nohup) keeps it ignored."""
    global _asked
    _asked = False
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)


def were_asked_for() -> bool:
    """Whether a signal came: a module that was just being imported turns it into an ImportError."""
    return _asked


def settle() -> None:
    """An interruption that was told is over: the exit code counts again.

    CPython (3.11: `run_eval_code_obj`) notes a KeyboardInterrupt that leaves an `exec` of text,
    which dataclasses use while modules load, and dies of SIGINT in the end even if it was caught.
    The next `exec` of text forgets the note.
    """
    exec("")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
