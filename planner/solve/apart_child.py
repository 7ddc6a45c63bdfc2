"""CP-SAT in a process of its own: the child's side. It runs as a file and loads nothing of ours, so
that it starts in the time that OR-Tools takes to load.

Frames in both directions: length, then a pickle. In: `Question` or `STOP`. Out: points as they are
found, `(values, bound)`, then the response as text. When its input ends, so does the process, in
the middle of a search too.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import threading
from time import monotonic
from typing import IO

from ortools.sat.python import cp_model_helper as cmh

LENGTH = struct.Struct("!Q")
STOP = "stop"
Question = tuple[str, str, bool, float]
"""Parameters and model in protobuf's text format, whether points are wanted as they come, and until
when to search: of `monotonic`, which all processes of a machine share."""
LEAST_S = 1e-3
"""CP-SAT refuses a limit of no time."""


class _Watcher(cmh.SolutionCallback):
    """Writes every better point."""

    def __init__(self, out: IO[bytes]) -> None:
        super().__init__()
        self._out = out

    def OnSolutionCallback(self) -> None:  # noqa: N802  OR-Tools calls it by this name
        """A better point was found."""
        response = self.Response()  # type: ignore[no-untyped-call]
        values = [int(value) for value in response.solution]
        write(self._out, (values, float(self.BestObjectiveBound())))


def write(out: IO[bytes], message: object) -> None:
    """One frame."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    out.write(LENGTH.pack(len(data)) + data)
    out.flush()


def read(source: IO[bytes]) -> object:
    """One frame.

    Raises:
        EOFError: the other side is gone.
    """
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


def _solve(wrapper: cmh.SolveWrapper, question: Question, out: IO[bytes]) -> None:
    parameters, model = cmh.SatParameters(), cmh.CpModelProto()
    parameters.parse_text_format(question[0])
    model.parse_text_format(question[1])
    parameters.max_time_in_seconds = max(question[3] - monotonic(), LEAST_S)
    wrapper.set_parameters(parameters)
    watcher = _Watcher(out) if question[2] else None
    if watcher is not None:
        wrapper.add_solution_callback(watcher)
    write(out, str(wrapper.solve(model)))  # type: ignore[no-untyped-call]


def main() -> None:
    """Answers one question after another."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between frames
    wrapper: cmh.SolveWrapper | None = None
    while True:
        try:
            message = read(sys.stdin.buffer)
        except EOFError:
            os._exit(0)
        if message == STOP:
            if wrapper is not None:
                wrapper.stop_search()
            continue
        assert isinstance(message, tuple)
        wrapper = cmh.SolveWrapper()
        threading.Thread(target=_solve, args=(wrapper, message, out), daemon=True).start()


if __name__ == "__main__":
    main()
