"""An engine of several ranks behind the same `Session` as any other."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.errors import EnvironmentMismatchError, UsageError
from planner.runtime.devices import count_gpus
from planner.runtime.engine import Session
from planner.runtime.ranks.fabric import choose
from planner.runtime.ranks.group import RankGroup, RankLostError
from planner.runtime.ranks.program import programs
from planner.runtime.segments import Bound
from planner.spec.manifest import Manifest

_PATIENCE_S = 60.0
"""A run that takes so much longer than predicted hangs."""
_PATIENCE_FACTOR = 50.0
_ATTEMPTS = 2
"""A run whose ranks die is tried once more with new ones; what kills those, too, is to blame."""


class GroupSession(Session):
    """Drives the ranks; a group that dies is started again by the next run."""

    def __init__(self, directory: Path, manifest: Manifest, library: str) -> None:
        super().__init__(directory, manifest, ())
        self.library = library
        self._programs = programs(manifest)
        predicted = [found.high for found in manifest.predicted_latency_us.values()]
        self._timeout_s = max(_PATIENCE_S, _PATIENCE_FACTOR * max(predicted, default=0.0) / 1e6)
        self._starting = threading.Lock()
        self.restarts = 0
        self.group = RankGroup(directory, self._programs, library)

    def _execute(self, segments: tuple[Bound, ...], feeds: Mapping[str, Any]) -> dict[str, Any]:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._run(feeds)
            except RankLostError:
                self._refuse_closed()
        return self._run(feeds)

    def _run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        outputs = self._living().run(feeds, self._timeout_s)
        return {
            name: outputs[name] if name in outputs else feeds[name] for name in self._output_names
        }

    def _living(self) -> RankGroup:
        group = self.group
        if group.is_alive:
            return group
        with self._starting:
            self._refuse_closed()
            if not self.group.is_alive:
                self.group = RankGroup(self.directory, self._programs, self.library)
                self.restarts += 1
            return self.group

    def _refuse_closed(self) -> None:
        if self._segments is None:
            raise UsageError("the session is closed", where=self.name)

    def close(self) -> None:
        """Ends the ranks; later runs are refused."""
        super().close()
        with self._starting:
            self.group.end()


def load_group(directory: Path, manifest: Manifest) -> GroupSession:
    """Starts the ranks of an engine whose files have been checked.

    Raises:
        EnvironmentMismatchError: fewer GPUs than ranks, no library to talk through, or the ranks
            cannot load their parts.
    """
    kinds = {stage.device for stage in manifest.stages}
    device = "cuda" if "cuda" in kinds else "cpu"
    present = count_gpus()
    if device == "cuda" and present < manifest.ranks:
        raise EnvironmentMismatchError(
            f"this engine needs {manifest.ranks} GPUs; this machine has {present}",
            where=str(directory),
            fix="deploy it where they are, or plan with --gpus "
            + (f"1..{present}" if present else "and --target for this machine"),
        )
    return GroupSession(directory, manifest, choose(device))
