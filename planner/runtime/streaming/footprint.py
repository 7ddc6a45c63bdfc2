"""The most memory that a process takes, measured in one of its own.

    python -m planner.runtime.streaming.footprint MODEL.onnx             # a session that never runs
    python -m planner.runtime.streaming.footprint ENGINE INPUTS.npz ...  # an engine that does

Why the mark of the address space (`VmHWM`) and not `ru_maxrss`: the latter remembers what the
parent had before it became this program.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from planner.errors import EnvironmentMismatchError, InfoptError, VerificationError
from planner.runtime.measure import same_package
from planner.runtime.tensors import read_tensors
from planner.spec.session import SessionSettings

_RUNS = 3
_TIMEOUT_S = 600.0
_STATUS = Path("/proc/self/status")


def peak_size_bytes(*given: Path) -> int | None:
    """Of a process that loads a model, or loads an engine and runs it on each of the inputs; None
    where this system does not tell.

    Raises:
        VerificationError: the engine fails, or its process dies.
        EnvironmentMismatchError: it does not end in time.
    """
    if not _STATUS.exists():
        return None
    command = [sys.executable, "-P", "-m", "planner.runtime.streaming.footprint", *map(str, given)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=same_package()
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentMismatchError(
            f"running did not end within {_TIMEOUT_S:.0f} s", where=str(given[0])
        ) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise VerificationError(f"the process failed: {lines[-1]}", where=str(given[0]))
    return int(done.stdout)


def main(arguments: list[str]) -> int:
    """Entry of the process."""
    try:
        _use(Path(arguments[0]), [Path(each) for each in arguments[1:]])
    except InfoptError as error:
        sys.stderr.write(error.text.replace("\n", " ") + "\n")
        return error.exit_code
    marks = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    sys.stdout.write(str(int(marks["VmHWM"].split()[0]) * 1024))
    return 0


def _use(subject: Path, inputs: list[Path]) -> None:
    from planner.runtime.engine import load
    from planner.runtime.ort import make_session

    if not inputs:
        make_session(subject, SessionSettings())
        return
    with load(subject) as session:
        for path in inputs:
            feeds = read_tensors(path)
            for _ in range(_RUNS):
                session.run(feeds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
