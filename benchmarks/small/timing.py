"""Device time of a graph replay, hot and cold, by events; host time of a call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from planner.runtime.fused.driver import Driver

_FLUSH_SIZE_BYTES = 512 * 2**20
"""Written between cold runs: more than eight times an H200's L2."""


_FLUSHED: dict[int, int] = {}
"""Device -> memory that is overwritten; one for all timers."""


class Timer:
    """Times what a callable queues on a stream of the driver API."""

    def __init__(self, driver: Driver, stream: Any) -> None:
        self._api, self._stream = driver.api, stream
        if driver.ordinal not in _FLUSHED:
            _FLUSHED[driver.ordinal] = driver.allocate(_FLUSH_SIZE_BYTES)
        self._flush = _FLUSHED[driver.ordinal]

    def _check(self, result: tuple[Any, ...]) -> Any:
        if int(result[0]) != 0:
            raise RuntimeError(str(result[0]))
        return result[1] if len(result) > 1 else None

    def _event(self) -> Any:
        return self._check(self._api.cuEventCreate(0))

    def _mark(self, event: Any) -> None:
        self._check(self._api.cuEventRecord(event, self._stream))

    def device_us(self, run: Callable[[], object], *, cold: bool, repeats: int = 200) -> float:
        """Median microseconds of one run between two events; everything is queued ahead.

        Hot: runs follow each other. Cold: L2 is overwritten before each run.
        """
        events = [(self._event(), self._event()) for _ in range(repeats)]
        for _ in range(10):
            run()
        self._delay()
        for begin, end in events:
            if cold:
                self._delay()
            self._mark(begin)
            run()
            self._mark(end)
        self._check(self._api.cuStreamSynchronize(self._stream))
        taken = [self._check(self._api.cuEventElapsedTime(a, b)) * 1e3 for a, b in events]
        return float(statistics.median(taken))

    def _delay(self) -> None:
        done = self._api.cuMemsetD8Async(self._flush, 0, _FLUSH_SIZE_BYTES, self._stream)
        self._check(done)


def call_us(call: Callable[[], object], repeats: int = 300) -> float:
    """Median wall microseconds of a call that waits for its result."""
    for _ in range(20):
        call()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begin) / 1e3)
    return statistics.median(taken)
