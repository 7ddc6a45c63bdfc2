"""Times whole variants against each other: one process each, alternating, the others stopped.

Idle ONNX Runtime sessions spin their thread pools: two identical sessions in one process measured
0.51 to 1.29 times each other. So each contestant has a process of its own, stopped (SIGSTOP) while
others run; every round visits all of them in a rotated order, and ratios are taken within rounds,
so that a machine that slows down for a while slows all of them down.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from planner.errors import ModelError
from planner.profiling.forked import Zygote
from planner.profiling.launch import Closing
from planner.profiling.racer import Call
from planner.profiling.timing import Interval, median_interval
from planner.spec.session import SessionSettings

_TURN_US = 4_000.0
"""A turn is short, so that each contestant has many, spread over the neighbours' spells of load."""
_LEAST_RUNS = 2
_FEWEST_ROUNDS = 8
_MOST_RUNS = 400
_READY_S = 600.0
"""Loading a model must not take longer than this; a hang would stop the plan for ever."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A variant to be timed as a whole."""

    name: str
    model_path: Path
    settings: SessionSettings
    call: Call = "engine"
    """How its session is called (`planner.profiling.racer`)."""
    beside: str | None = None
    """Name of a contestant whose turn comes just before each of this one's, besides its own: the
    two see the same state of the machine."""


@dataclass(slots=True)
class Result:
    """What a contestant's process measured."""

    name: str
    rounds_us: list[list[float]] = field(default_factory=list)
    """Times of every run, by round."""
    beside_us: list[float] = field(default_factory=list)
    """Median of the contestant beside, by round."""
    peak_size_bytes: int = 0

    @property
    def medians_us(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([np.median(times) for times in self.rounds_us])

    def percentile_us(self, percentile: float) -> float:
        """Over all runs of all rounds."""
        return float(np.percentile(np.concatenate(self.rounds_us), percentile))

    @property
    def runs(self) -> int:
        return sum(len(times) for times in self.rounds_us)


def speedup(reference_us: ArrayLike, other_us: ArrayLike) -> Interval:
    """How many times faster `other` is than `reference`, both by round: median and interval."""
    return median_interval(list(np.asarray(reference_us) / np.asarray(other_us)))


def weighted_rounds(
    shapes_us: Sequence[Sequence[float]], shares: Sequence[float]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The whole workload by round: the mean of all shapes' times, weighted by their shares; as far
    as every shape has rounds."""
    rounds = min(len(times) for times in shapes_us)
    by_shape = np.array([times[:rounds] for times in shapes_us], dtype=np.float64)
    return np.average(by_shape, axis=0, weights=shares)


class _Process:
    """One contestant's process, stopped unless it is its turn."""

    def __init__(self, contestant: Contestant, feeds_path: Path, zygote: Zygote) -> None:
        self.result = Result(contestant.name)
        self.beside = contestant.beside
        self._process = zygote.fork(
            str(contestant.model_path),
            contestant.settings.model_dump_json(),
            str(feeds_path),
            contestant.call,
        )

    @property
    def pid(self) -> int:
        """The process' number."""
        return self._process.pid

    def await_ready(self) -> None:
        """Waits until the session is loaded, then stops the process until its turn.

        Raises:
            ModelError: it died, or did not load in time.
        """
        self._expect_line(_READY_S)
        self._process.signal(signal.SIGSTOP)

    def _expect_line(self, timeout_s: float | None = None) -> str:
        try:
            line = self._process.read_line(timeout_s)
        except TimeoutError:
            raise ModelError(
                f"the variant {self.result.name!r} did not load in {timeout_s:.0f} s"
            ) from None
        if not line:
            raise ModelError(f"the variant {self.result.name!r} cannot be run by ONNX Runtime")
        return line

    def turn(self, runs: int) -> list[float]:
        """Runs `runs` times while all others are stopped.

        Raises:
            ModelError: the process died.
        """
        self._process.signal(signal.SIGCONT)
        self._process.send_line(str(runs))
        reply = json.loads(self._expect_line())
        self._process.signal(signal.SIGSTOP)
        self.result.peak_size_bytes = int(reply["peak_size_bytes"])
        times: list[float] = reply["times_us"]
        return times

    def close(self) -> None:
        self._process.close()


class Race(Closing):
    """Contestants in their processes; a context manager that leaves none behind."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        feeds_path: Path,
        own_feeds: Mapping[str, Path] = MappingProxyType({}),
        *,
        zygote: Zygote | None = None,
    ) -> None:
        """
        Args:
            own_feeds: inputs of contestants that do not take `feeds_path`'s, by name.
            zygote: what processes are forked from; races in a row may share one.
        """
        self._own_zygote = Zygote() if zygote is None else None
        forking = zygote or self._own_zygote
        assert forking is not None
        self._processes: list[_Process] = []
        self.failed: dict[str, str] = {}
        """Contestants that could not be started or died on the way, with the reason."""
        try:
            for contestant in contestants:
                feeds = own_feeds.get(contestant.name, feeds_path)
                self._processes.append(_Process(contestant, feeds, forking))
            for process in list(self._processes):
                self._await(process)
        except BaseException:
            self.close()
            raise

    def _await(self, process: _Process) -> None:
        try:
            process.await_ready()
        except ModelError as error:
            self.failed[process.result.name] = error.what
            self._processes.remove(process)
            process.close()

    def close(self) -> None:
        """Ends every process."""
        for process in self._processes:
            process.close()
        if self._own_zygote is not None:
            self._own_zygote.close()

    def run(self, *, rounds: int, budget_s: float) -> dict[str, Result]:
        """A few rounds at least, then more until `rounds` or the budget is spent.

        Who dies on the way is named in `failed` and has no result; the others go on.
        """
        turns = self._lengths_of_turns()
        companions = {process.beside for process in self._processes}
        end = time.perf_counter() + budget_s
        for number in range(rounds):
            running = [p for p in self._processes if p.result.name not in companions]
            shift = number % max(len(running), 1)
            for process in running[shift:] + running[:shift]:
                self._round(process, turns)
            if number + 1 >= _FEWEST_ROUNDS and time.perf_counter() > end:
                break
        return {p.result.name: p.result for p in self._processes if p.result.rounds_us}

    def _round(self, process: _Process, turns: Mapping[str, int]) -> None:
        """The turn of the one beside, where there is one, and then its own."""
        beside = next((p for p in self._processes if p.result.name == process.beside), None)
        seen = None if beside is None else self._turn(beside, turns[beside.result.name])
        times = self._turn(process, turns[process.result.name])
        if times is None:
            return
        process.result.rounds_us.append(times)
        if seen is not None:
            process.result.beside_us.append(float(np.median(seen)))

    def _lengths_of_turns(self) -> dict[str, int]:
        """Runs a turn, so that turns of all contestants take about as long."""
        found: dict[str, int] = {}
        for process in list(self._processes):
            times = self._turn(process, _LEAST_RUNS)
            if times is not None:
                runs = _TURN_US / max(float(np.median(times)), 1.0)
                found[process.result.name] = int(min(max(runs, _LEAST_RUNS), _MOST_RUNS))
        return found

    def _turn(self, process: _Process, runs: int) -> list[float] | None:
        """Times of one turn; None where the contestant died of it."""
        try:
            return process.turn(runs)
        except ModelError as error:
            self.failed[process.result.name] = error.what
            self._processes.remove(process)
            process.close()
            return None
