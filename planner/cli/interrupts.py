"""Ctrl-C and SIGTERM end a command in the same words, at whatever moment they come."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

TEXT = "interrupted; what was measured is kept, a rerun continues"
EXIT_CODE = 130

PATIENCE_S = 1.0
"""A second signal so soon after the first is the same wish (a key pressed twice, a signal to the
process and to its group): it must not tear down what is just being put in order."""

_asked = False
_asked_at_s = 0.0


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


def end(code: int) -> None:
    """All is told and put in order: from now on a signal ends the process at once, with the exit
    code that it has earned. In what the interpreter does last it would be a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, lambda *_: os._exit(code))


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    global _asked, _asked_at_s
    now_s = time.monotonic()
    if _asked and now_s - _asked_at_s < PATIENCE_S:
        return
    _asked, _asked_at_s = True, now_s
    raise KeyboardInterrupt
