"""How much of a run ranks spend talking: the same run with and without collectives and messages.

python -m planner.runtime.ranks.shares ENGINE SOCKET LIBRARY WORLD MEETING [RANK]

Not the sum of what collectives take alone: where one waits for a slower rank, or hides behind
nothing, that counts, too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.errors import UsageError
from planner.runtime import integrity
from planner.runtime.ranks.fabric import Fabric, choose
from planner.runtime.ranks.group import RankGroup
from planner.runtime.ranks.program import programs
from planner.runtime.ranks.resident import Resident
from planner.runtime.ranks.worker import Call, prepared, serve

_RUNS = 100
_WARM_UP_RUNS = 10


@dataclass(frozen=True, slots=True)
class Shares:
    """Medians of one rank, microseconds."""

    run_us: float
    """Upload to download, all ranks at once."""
    alone_us: float
    """The same without collectives and messages."""
    is_captured: bool
    """Whether a run is one CUDA graph."""

    @property
    def talking(self) -> float:
        """The share of a run that is not the rank's own work."""
        return max(1 - self.alone_us / self.run_us, 0.0)


def measure_shares(directory: Path) -> list[Shares]:
    """Of each rank of an engine whose shapes are fixed; starts its ranks and ends them.

    Raises:
        EnvironmentMismatchError: they cannot be started.
        UsageError: an engine of open shapes.
    """
    manifest = integrity.read_manifest(directory)
    device = "cuda" if any(stage.device == "cuda" for stage in manifest.stages) else "cpu"
    group = RankGroup(directory, programs(manifest), choose(device), __name__)
    try:
        return [Shares(*group.told[rank]) for rank in range(manifest.ranks)]
    finally:
        group.end()


def _prepare(directory: Path, fabric: Fabric) -> tuple[Call, object]:
    call = prepared(directory, integrity.read_manifest(directory), fabric)
    if not isinstance(call, Resident):
        raise UsageError("shapes of this engine are open", where=str(directory))
    return call, _measured(call)


def _measured(resident: Resident) -> tuple[float, float, bool]:
    """Every rank does the same, the runs that need the others first."""
    board = resident.board
    replay = resident.replay
    together = _median_us(replay, board.finish)
    alone: Callable[[], object] = lambda: resident.queue(talks=False)  # noqa: E731
    if resident.is_captured:
        alone = board.capture(lambda: _drop(resident.queue(talks=False))) or alone
    return together, _median_us(alone, board.finish), resident.is_captured


def _drop(_: object) -> None:
    """A graph is made of what was queued, not of what it returns."""


def _median_us(work: Callable[[], object], finish: Callable[[], None]) -> float:
    samples: list[float] = []
    for _ in range(_WARM_UP_RUNS + _RUNS):
        start = time.perf_counter()
        work()
        finish()
        samples.append((time.perf_counter() - start) * 1e6)
    return float(np.median(samples[_WARM_UP_RUNS:]))


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], lambda fabric: _prepare(Path(sys.argv[1]), fabric)))
