"""The planner's side of `zygote`: contestants' processes, forked from one that has loaded all.

Loading Python, NumPy and ONNX Runtime takes half a second and 45 MB a process; a fork takes a few
milliseconds and shares what is loaded. A race of a plan starts some forty processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
from typing import Any

from planner.errors import EnvironmentMismatchError
from planner.profiling.launch import Closing, command, environment

_STOP_S = 2.0


class Zygote(Closing):
    """A process that has loaded what contestants need, and forks them."""

    def __init__(self) -> None:
        self._children: list[Forked] = []
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command("planner.profiling.zygote"), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment({"OPENBLAS_NUM_THREADS": "1"}),
            )

    def fork(self, *arguments: str) -> Forked:
        """A contestant with the arguments of `racer`.

        Raises:
            EnvironmentMismatchError: no process can be started.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = self._ask({"fork": arguments}, [theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        self._children.append(Forked(self, pid, ours))
        return self._children[-1]

    def bury(self, pid: int) -> None:
        """Ends a contestant and waits until its memory is given back."""
        with contextlib.suppress(EnvironmentMismatchError):  # all children died with the zygote
            self._ask({"bury": pid})

    def _ask(self, request: dict[str, Any], descriptors: tuple[int, ...] | list[int] = ()) -> int:
        line = json.dumps(request).encode() + b"\n"
        try:
            socket.send_fds(self._control, [line], descriptors)
            reply = self._control.recv(1 << 10)
        except OSError:
            reply = b""
        if not reply:
            raise EnvironmentMismatchError(
                "no process can be started to time the model in", fix="see `infopt doctor`"
            )
        return int(json.loads(reply)["pid"])

    def close(self) -> None:
        """Ends the process and every contestant that is left."""
        for child in self._children:
            child.hang_up()
        self._control.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Forked:
    """One contestant's process, talking in lines."""

    def __init__(self, zygote: Zygote, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._zygote = zygote
        self._channel = channel
        self._lines = channel.makefile("r", encoding="utf-8")

    def send_line(self, text: str) -> None:
        """Who is dead does not hear it; it shows when it does not answer."""
        with contextlib.suppress(OSError):
            self._channel.sendall(text.encode() + b"\n")

    def read_line(self, timeout_s: float | None = None) -> str:
        """The next line; empty where the process is gone.

        Raises:
            TimeoutError: nothing was said in time.
        """
        if timeout_s is not None and not select.select([self._channel], [], [], timeout_s)[0]:
            raise TimeoutError
        try:
            return self._lines.readline()
        except ConnectionError:  # it died with something of ours unread
            return ""

    def signal(self, number: int) -> None:
        """Signals the process; one that died keeps its number until `close`."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self) -> None:
        """Ends it; its memory is free afterwards."""
        self._zygote.bury(self.pid)
        self.hang_up()

    def hang_up(self) -> None:
        """Closes the channel: who listens on the other end ends."""
        self._lines.close()
        self._channel.close()
