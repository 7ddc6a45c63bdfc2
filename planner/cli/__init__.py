"""The command line: one file a command. click lives only here.

A command parses, calls `planner.pipeline`, and prints. Heavy libraries are imported inside the
command bodies, so that `infopt --help` answers at once.
"""

from __future__ import annotations

import sys

from planner.cli import interrupts


def main() -> None:
    """The console script `infopt`."""
    interrupts.listen()
    try:
        from planner.cli.exits import run
    except BaseException:
        if not interrupts.were_asked_for():
            raise
        interrupts.end(interrupts.EXIT_CODE)
        sys.stderr.write(f"{interrupts.TEXT}\n")
        interrupts.settle()
        sys.exit(interrupts.EXIT_CODE)
    code = run(sys.argv[1:])
    interrupts.end(code)
    if interrupts.were_asked_for():
        interrupts.settle()
    sys.exit(code)
