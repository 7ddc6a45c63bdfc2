"""Latency of an engine, measured in a process of its own.

Why its own process: idle ONNX Runtime sessions spin their thread pools, and two sessions in one
process disturb each other's latency by up to a factor of two.

    python -m planner.runtime.measure ENGINE INPUTS.npz --seconds 2      # prints JSON
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError, InfoptError, VerificationError
from planner.runtime.tensors import read_tensors, write_tensors

WARM_UP_SHARE = 0.2
"""Of the time given: thread pools, arenas and branch predictors settle."""
MIN_RUNS = 30
_GRACE_S = 120.0
"""Loading the engine must not take longer than this."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Samples in the order taken, microseconds."""

    samples_us: tuple[float, ...]

    @property
    def count(self) -> int:
        """Number of runs, warm-up left out."""
        return len(self.samples_us)

    def percentile_us(self, percentile: float) -> float:
        """The sample not exceeded by that share of runs (interpolated), e.g. 99.0."""
        return float(np.percentile(self.samples_us, percentile))

    @property
    def p50_us(self) -> float:
        """Median."""
        return self.percentile_us(50)

    @property
    def p95_us(self) -> float:
        """95th percentile."""
        return self.percentile_us(95)

    @property
    def p99_us(self) -> float:
        """99th percentile."""
        return self.percentile_us(99)


def measure(
    engine: Path,
    feeds: Mapping[str, Any] | Path,
    *,
    seconds: float = 2.0,
    max_runs: int = 20_000,
) -> Latency:
    """Run an engine over and over in a fresh process.

    `feeds` are arrays by name, or an .npz of them (such as an engine's golden inputs). Takes at
    least 30 runs, however slow; hashes are not checked again.

    Raises:
        VerificationError: the engine fails, or its process dies.
        EnvironmentMismatchError: it does not end in time.
    """
    with tempfile.TemporaryDirectory(prefix="infopt-measure-") as scratch:
        inputs = feeds if isinstance(feeds, Path) else Path(scratch, "inputs.npz")
        if not isinstance(feeds, Path):
            write_tensors(inputs, feeds)
        command = [
            *(sys.executable, "-P", "-m", "planner.runtime.measure", str(engine), str(inputs)),
            *("--seconds", str(seconds), "--max-runs", str(max_runs)),
        ]
        return _samples(command, engine, _GRACE_S + 60 * seconds)


def _samples(command: Sequence[str], engine: Path, timeout_s: float) -> Latency:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=same_package()
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentMismatchError(
            f"measuring did not end within {timeout_s:.0f} s", where=str(engine)
        ) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise VerificationError(f"the measuring process failed: {lines[-1]}", where=str(engine))
    return Latency(tuple(json.loads(done.stdout)))


def same_package() -> dict[str, str]:
    """This process's environment, so that the child imports this very package, wherever it is run.

    `-P` keeps a folder called `planner` in the user's working directory from shadowing it.
    """
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def sample(engine: Path, feeds: Mapping[str, Any], *, seconds: float, max_runs: int) -> Latency:
    """The same in this process; call it only where nothing else runs."""
    from planner.runtime.engine import load

    with load(engine, verify_hashes=False) as session:
        run = session.run
        clock = time.perf_counter_ns
        until = clock() + int(seconds * WARM_UP_SHARE * 1e9)
        run(feeds)
        while clock() < until:
            run(feeds)
        samples: list[float] = []
        until = clock() + int(seconds * 1e9)
        gc.disable()
        while len(samples) < MIN_RUNS or (clock() < until and len(samples) < max_runs):
            start = clock()
            run(feeds)
            samples.append((clock() - start) / 1e3)
        gc.enable()
    return Latency(tuple(samples))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the measuring process: samples as JSON on stdout, one line on stderr on failure."""
    parser = argparse.ArgumentParser(prog="python -m planner.runtime.measure")
    parser.add_argument("engine", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--max-runs", type=int, default=20_000)
    options = parser.parse_args(arguments)
    try:
        latency = sample(
            options.engine,
            read_tensors(options.inputs),
            seconds=options.seconds,
            max_runs=options.max_runs,
        )
    except InfoptError as error:
        sys.stderr.write(error.text.replace("\n", " ") + "\n")
        return error.exit_code
    sys.stdout.write(json.dumps([round(value, 3) for value in latency.samples_us]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
