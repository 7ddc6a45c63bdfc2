"""Measuring processes, one per number of threads, and the models that each holds analysed."""

from __future__ import annotations

from pathlib import Path

from planner.profiling.client import AnalysedModel, MeasuringProcess
from planner.steps.analysis import Executable

_LIVE_BYTES = 64 * 2**20
"""Constants and activations that a measuring process may hold before another model joins them."""


class Processes:
    """Started when first needed."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._processes: dict[int, MeasuringProcess] = {}
        self._live: dict[tuple[int, str], AnalysedModel] = {}

    def of(self, threads: int) -> MeasuringProcess:
        """The one with that many threads."""
        if threads not in self._processes:
            self._processes[threads] = MeasuringProcess(threads, self._scratch)
        return self._processes[threads]

    def analysed(self, executable: Executable, threads: int) -> AnalysedModel:
        """A live analysis in the measuring process; it holds the values that flow through."""
        name = (threads, executable.name)
        if name not in self._live:
            self._make_room(threads)
            process = self.of(threads)
            path = executable.build()
            self._live[name] = process.analyse(path, executable.level, executable.feeds_path)
        return self._live[name]

    def _make_room(self, threads: int) -> None:
        """Forgets the oldest analyses of a process until the rest leaves room for another."""
        held = [name for name in self._live if name[0] == threads]
        while held and sum(self._live[name].held_size_bytes for name in held) > _LIVE_BYTES:
            self.of(threads).forget(self._live.pop(held.pop(0)))

    def revive(self, threads: int) -> None:
        """A new process in place of a dead one; what it had analysed is gone."""
        self._live = {name: live for name, live in self._live.items() if name[0] != threads}
        self.of(threads).restart()

    def rest(self, but: int | None = None) -> None:
        """Ends the processes (but the one with that many threads), and their memory."""
        for threads in [threads for threads in self._processes if threads != but]:
            self._processes.pop(threads).close()
        self._live = {name: live for name, live in self._live.items() if name[0] == but}
