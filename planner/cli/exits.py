"""Runs a command and turns how it ended into an exit code; the only place that does.

0 done                1 internal error        2 usage or configuration   3 infeasible (proved)
4 verification failed 5 environment mismatch  6 no plan in time          7 CI regression
130 interrupted (what was measured is kept; a rerun continues)
"""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from planner.cli import interrupts
from planner.cli.root import root
from planner.errors import InfoptError

DEBUG_VARIABLE = "INFOPT_DEBUG"
_STANDARD_ERROR = 2
"""The highest number of a standard stream."""


def run(arguments: Sequence[str]) -> int:
    """Runs infopt with `arguments` and returns its exit code. Never raises."""
    interrupts.listen()
    _open_what_was_closed()
    _accept_any_encoding()
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        _silence_stdout()
        return code or _output_error(error)
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        ended: Any = root.main(list(arguments), prog_name="infopt", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except SystemExit:  # click's answer to a reader that has gone; everything else returns here
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        return _ending(error)
    return ended if isinstance(ended, int) else 0


def _ending(error: BaseException) -> int:
    """Says in one message how it ended; the exit code."""
    if interrupts.were_asked_for() or isinstance(error, KeyboardInterrupt | click.Abort):
        return _refuse(interrupts.TEXT, interrupts.EXIT_CODE)
    if isinstance(error, InfoptError):
        return _refuse(error.text, error.exit_code)
    if isinstance(error, OSError):
        return _output_error(error)
    if isinstance(error, MemoryError):
        return _refuse("out of memory\n  fix: `infopt doctor` shows what is free", 5)
    first_line = (str(error).splitlines() or [""])[0]
    return _refuse(
        f"internal error: {type(error).__name__}: {first_line}\n"
        f"  fix: this is a bug; {DEBUG_VARIABLE}=1 shows where, please report it",
        1,
    )


def _output_error(error: OSError) -> int:
    """A full disk is no bug of infopt; a reader that has seen enough (`| head`) is no error."""
    if isinstance(error, BrokenPipeError):
        return 0
    reason = error.strerror or error
    if error.filename is not None:
        return _refuse(f"{error.filename}: {reason}", 2)
    where = f"standard output (or a temporary file in {tempfile.gettempdir()})"
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = "\n  fix: free some space, or point TMPDIR elsewhere" if is_full else ""
    return _refuse(f"{where}: {reason}{fix}", 2)


def _open_what_was_closed() -> None:
    """Whoever starts infopt without standard streams (`>&-`) hears nothing; and no file that is
    opened later gets one of their numbers, which native libraries print to."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  until it ends


def _accept_any_encoding() -> None:
    """A terminal or a pipe that is not UTF-8 gets a question mark for what it cannot show: lines
    of tables, names of models. Documents (`--json` of plans and verdicts) are bytes, and whole."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _silence_stdout() -> None:
    """What could not be written must not be tried again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(text: str, code: int) -> int:
    click.echo(f"error: {text}" if code != interrupts.EXIT_CODE else text, err=True)
    return code
