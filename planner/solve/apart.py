"""CP-SAT in a process of its own: what kills it there costs an answer, not the plans found so far.

OR-Tools 9.15 ends its process where time runs out at the wrong moment (`Check failed:
heuristics.fixed_search != nullptr`); out of memory, so does the kernel. A child is started by the
first search, kept, and asked again; one that died is replaced by the next search. Several threads
get a child each.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from time import monotonic

from ortools.sat.python import cp_model_helper as cmh

from planner.solve import apart_child
from planner.solve.apart_child import STOP, read, write

OnPoint = Callable[[list[int], float], None]
"""Called with each better point, one value a column, and the bound."""
GRACE_S = 1.0
"""After its time, in which a child may still answer before it is killed: between two looks at the
clock, and while it writes its answer."""
_KEPT = 2
"""Idle children that are kept."""
_STOP_S = 0.02
"""Between two requests to stop: one that comes before the search begins is not heard."""


class SolverDiedError(Exception):
    """The process of a solver ended before it answered."""


class Child:
    """One process."""

    def __init__(self) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(apart_child.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is ours alone
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, question: apart_child.Question, on_point: OnPoint | None) -> str:
        """The response as text.

        Raises:
            SolverDiedError: the process ended first.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write(self._process.stdin, question)
            while not isinstance(message := read(self._process.stdout), str):
                assert isinstance(message, tuple)
                if on_point is not None:
                    on_point(*message)
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise SolverDiedError(f"CP-SAT's process ended, {self._end()}") from error
        return message

    def stop(self) -> None:
        """Asks the search to end with what it has."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            write(self._process.stdin, STOP)

    def _end(self) -> str:
        code = self._process.wait()
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"exit code {code}"

    def kill(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Ends it once it is idle."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Children:
    """Idle processes; those of a parent that forked are left to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._owner = os.getpid()

    def take(self) -> Child:
        """An idle child, or a new one.

        Raises:
            OSError: none can be started.
        """
        with self._lock:
            if self._owner != os.getpid():
                self._idle, self._owner = [], os.getpid()
            while self._idle:
                child = self._idle.pop()
                if child.is_alive:
                    return child
                child.close()
        return Child()

    def give(self, child: Child) -> None:
        """Takes one back."""
        with self._lock:
            if child.is_alive and len(self._idle) < _KEPT:
                self._idle.append(child)
                return
        child.close()

    def close(self) -> None:
        """Ends them all."""
        with self._lock:
            idle, self._idle = self._idle, []
        if self._owner == os.getpid():
            for child in idle:
                child.close()


CHILDREN = Children()
atexit.register(CHILDREN.close)


def solve_apart(
    parameters: cmh.SatParameters, model: cmh.CpModelProto, on_point: OnPoint | None
) -> tuple[cmh.CpSolverResponse, bool]:
    """Solves in a child: the response, and whether Ctrl-C stopped the search.

    The time that the parameters allow is that of all this: writing the model and reading it there
    take seconds where it is large, so the child is told until when it may search.

    Raises:
        SolverDiedError: the process ended.
        TimeoutError: it did not answer soon after its time.
    """
    until = monotonic() + float(parameters.max_time_in_seconds)
    question = (str(parameters), str(model), on_point is not None, until)
    child = CHILDREN.take()
    try:
        text, is_stopped = _answer(child, question, on_point)
    except BaseException:
        child.kill()
        raise
    CHILDREN.give(child)
    response = cmh.CpSolverResponse()
    response.parse_text_format(text)
    return response, is_stopped


def _answer(
    child: Child, question: apart_child.Question, on_point: OnPoint | None
) -> tuple[str, bool]:
    """In a thread, so that Ctrl-C reaches Python in the midst of it and stops the search."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(child.ask, question, on_point)
        until = question[-1]
        patience_s = max(until + GRACE_S - monotonic(), 0.0) if math.isfinite(until) else None
        try:
            return future.result(patience_s), False
        except KeyboardInterrupt:
            _stop(child, future)
            return future.result(), True
        except BaseException:
            child.kill()  # otherwise the thread would wait for it
            raise


def _stop(child: Child, future: Future[str]) -> None:
    try:
        while not future.done():
            child.stop()
            wait([future], timeout=_STOP_S)
    except BaseException:
        child.kill()
        raise
