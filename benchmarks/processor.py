"""Runs a benchmark whose seconds and limits are the processor's, where a machine is shared.

    python benchmarks/processor.py benchmarks/joint.py --growth growth.png --time-limit 12

`time.monotonic` counts what this process and its children have used. What is asked of CP-SAT's
process keeps its limit by the clock: that process has a clock of its own. Linux only.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
"""Of `/proc/PID/stat`, fields 14 and 15 (proc(5)), which follow the name in brackets."""
_CLOCK = time.monotonic


def children() -> Iterator[int]:
    """Processes that this one has started and that still run."""
    for thread in Path("/proc/self/task").iterdir():
        yield from map(int, (thread / "children").read_text(encoding="ascii").split())


def used_s(pid: int) -> float:
    """Seconds that a process has used so far; 0 once it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return TICK_S * (int(fields[11]) + int(fields[12]))


class Processor:
    """Never goes back, though a child that ends is counted a moment later by its parent."""

    def __init__(self) -> None:
        self._latest_s = 0.0

    def seconds(self) -> float:
        """Used by this process and its children."""
        ended = os.times()
        running = sum(used_s(pid) for pid in children())
        now = time.process_time() + ended.children_user + ended.children_system + running
        self._latest_s = max(self._latest_s, now)
        return self._latest_s


def main() -> None:
    """Runs the script that the command line names, with the rest of the line."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    time.monotonic = Processor().seconds
    from planner.solve import apart

    vars(apart)["monotonic"] = _CLOCK
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
