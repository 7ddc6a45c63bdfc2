"""Processes that are given one job after another: compilers, side by side.

Why not multiprocessing? Its spawn method imports the caller's `__main__` again, which runs a user's
script twice; and a process that has used CUDA must not be forked.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from planner.errors import EnvironmentMismatchError
from planner.graph.nursery import child_environment

J = TypeVar("J")
R = TypeVar("R")

_GONE = (BrokenPipeError, ConnectionResetError, EOFError, pickle.UnpicklingError)
"""What talking to a process that ended raises."""
_STOP_S = 2.0
"""A process may take so long to tidy up after a job that nobody waits for."""


class Workers:
    """At most `count` processes, started as they are needed; `close` ends them."""

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count)
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started: list[_Worker] = []
        self._is_closed = False

    def map(self, function: Callable[[J], R], jobs: Iterable[J]) -> list[R]:
        """`function` of each job, in order; a module-level function, jobs that pickle.

        Raises:
            EnvironmentMismatchError: a process was ended from outside, or crashed.
            Exception: the first that the function raised.
        """
        return list(self._threads.map(lambda job: self._done(function, job), jobs))

    def _done(self, function: Callable[[J], R], job: J) -> R:
        try:
            worker = self._free()
            is_raised, answer = worker.ask((function, job))
        except _GONE:
            raise EnvironmentMismatchError("a process of the compiler was ended") from None
        self._idle.put(worker)
        if is_raised:
            raise cast(Exception, answer)
        return cast(R, answer)

    def _free(self) -> _Worker:
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        with self._lock:
            if self._is_closed:
                raise EOFError("closed")
            self._started.append(_Worker())
            return self._started[-1]

    def close(self) -> None:
        """Ends the processes, whatever they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._is_closed = True
        for worker in self._started:
            worker.terminate()
        for worker in self._started:
            worker.end()
        self._threads.shutdown()


class _Worker:
    """One process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "planner.kernels.worker_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,  # Ctrl-C is ours alone
        )

    def ask(self, request: tuple[Callable[[J], R], J]) -> tuple[bool, object]:
        """Whether the function raised, and what it raised or returned."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        return cast(tuple[bool, object], pickle.load(self._process.stdout))

    def terminate(self) -> None:
        """Asks it to end now."""
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Waits for its end, or kills it."""
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
