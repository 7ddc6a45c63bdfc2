"""Start-up times: `infopt --help` and `import planner`, best and median of repeated cold processes.

    python benchmarks/startup.py [--runs 21]

The target is 0.2 s and 0.05 s; a bare interpreter is shown beside them, since both include it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

CASES = (
    ("python -c pass", ("-c", "pass"), None),
    ("import planner", ("-c", "import planner"), 0.05),
    ("infopt --help", ("-m", "planner", "--help"), 0.2),
    ("infopt plan --help", ("-m", "planner", "plan", "--help"), 0.2),
)


def seconds(arguments: tuple[str, ...]) -> float:
    """Wall-clock seconds of one interpreter from start to exit."""
    started_s = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    return time.perf_counter() - started_s


def main() -> None:
    """Prints one line a case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    print(f"{'command':20}{'best':>9}{'median':>9}{'target':>9}")
    for name, arguments, target_s in CASES:
        seconds(arguments)  # fills the bytecode cache
        found = [seconds(arguments) for _ in range(runs)]
        target = "" if target_s is None else f"{target_s:.2f} s"
        print(f"{name:20}{min(found):7.3f} s{statistics.median(found):7.3f} s{target:>9}")


if __name__ == "__main__":
    main()
