"""The process that contestants are forked from: `python -m planner.profiling.zygote DESCRIPTOR`.

It has loaded what every contestant needs and never loads a model. Each request on the control
socket is one line of JSON, each reply as well:

    {"fork": [argument, ...]}  + a descriptor: the child's stdin and stdout    -> {"pid": 4711}
    {"bury": pid}              kills it and waits until its memory is given back  -> {"pid": 4711}

A child that died stays unburied until it is asked for, so that its number means nobody else.

Why is forking safe here? This process has one thread: BLAS gets one, and ONNX Runtime starts none
before its first session, which only children make. Nothing wakes it while children run: a handler
for SIGCHLD would, at every turn of a race, on the core that is being measured.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
from typing import Any

from planner.profiling import racer
from planner.runtime.parent import die_with_parent

LONGEST_LINE = 1 << 16
"""Bytes of a request: two paths and a session's settings, with room to spare."""


class _Zygote:
    """Forks and buries until the planner hangs up."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: set[int] = set()

    def serve(self) -> None:
        """Ends with the planner's end of the socket."""
        with contextlib.suppress(ConnectionError):
            while (asked := self._next()) is not None:
                request, descriptors = asked
                pid = self._fork(request, descriptors) if "fork" in request else request["bury"]
                if "bury" in request:
                    self._bury(pid)
                self._control.sendall(json.dumps({"pid": pid}).encode() + b"\n")
        for pid in list(self._children):
            self._bury(pid)

    def _next(self) -> tuple[dict[str, Any], list[int]] | None:
        line, descriptors, _, _ = socket.recv_fds(self._control, LONGEST_LINE, 1)
        while line and not line.endswith(b"\n"):
            line += self._control.recv(LONGEST_LINE)
        return (json.loads(line), descriptors) if line else None

    def _fork(self, request: dict[str, Any], descriptors: list[int]) -> int:
        (channel,) = descriptors
        pid = os.fork()
        if pid == 0:
            self._become(channel, request["fork"])
        os.close(channel)
        self._children.add(pid)
        return pid

    def _become(self, channel: int, arguments: list[str]) -> None:
        """In the child: a contestant that talks over its own channel, until that is closed."""
        code = 1
        try:
            self._control.close()
            os.dup2(channel, 0)
            os.dup2(channel, 1)
            os.close(channel)
            racer.main(arguments)
            code = 0
        finally:
            os._exit(code)  # whatever a library left behind cannot delay the exit

    def _bury(self, pid: int) -> None:
        if pid not in self._children:
            return
        self._children.discard(pid)
        os.kill(pid, signal.SIGKILL)  # not yet waited for: the number is still its own
        os.waitpid(pid, 0)


def main(arguments: list[str]) -> None:
    """Serves until the planner is gone."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the planner's to handle
    gc.freeze()  # what is loaded is shared with every child as long as nobody touches it
    _Zygote(socket.socket(fileno=int(arguments[0]))).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
