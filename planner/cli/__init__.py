"""The command line: one file a command. click lives only here.

A command parses, calls `planner.pipeline`, and prints. Heavy libraries are imported inside the
command bodies, so that `infopt --help` answers at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The console script `infopt`."""
    from planner.cli.exits import run

    sys.exit(run(sys.argv[1:]))
