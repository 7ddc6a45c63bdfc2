"""A process that has loaded the libraries and forks for every sandboxed call: the caller's side.

    planner ──control──> nursery ──fork──> call: limits, one function, one answer, out
       └────────────── a socket a call ──────┘

Why? A plan makes two dozen sandboxed calls, and importing onnx and ONNX Runtime takes each of them
half a second of its own; a fork takes a few milliseconds. Every call still is a process of its own,
with limits of its own, that is gone afterwards.

Why is forking safe here? The nursery has one thread: BLAS gets one, ONNX Runtime starts none before
its first session, and sessions are only made in calls.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from planner.errors import EnvironmentMismatchError

MODULE_BYTES = 128
"""A request to fork: the name of the module to import first, padded to this length, with two file
descriptors: the call's socket and its stderr."""
STATUS = struct.Struct("!i")
"""What the nursery adds to a call's answer: its exit code as `subprocess` has them (-9: killed)."""
_CHUNK_BYTES = 1 << 20
_STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a call is told before it does anything."""

    memory_size_bytes: int
    cpu_s: int
    environment: dict[str, str]
    import_path: tuple[str, ...]
    folder: str


class Nursery:
    """The process that forks; started by the first call, ended with this process or by `rest`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0

    def call(
        self, module: str, order: Order, request: bytes, stderr: IO[bytes], wall_s: float
    ) -> tuple[bytes, int]:
        """The answer of one call and its exit code.

        `request` is what `sandbox_child` unpickles; `module` is imported before the fork.

        Raises:
            TimeoutError: it did not end within `wall_s`; it is killed.
            EnvironmentMismatchError: no process can be started.
        """
        end = time.monotonic() + wall_s
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._bear(module, [theirs.fileno(), stderr.fileno()])
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it shows below
                ours.settimeout(max(end - time.monotonic(), 0.001))
                ours.sendall(pickle.dumps(order) + request)
                ours.shutdown(socket.SHUT_WR)
            answer = _received(ours, end)
        if len(answer) < STATUS.size:
            return b"", -9  # the nursery itself was killed
        return answer[: -STATUS.size], STATUS.unpack(answer[-STATUS.size :])[0]

    def _bear(self, module: str, descriptors: Sequence[int]) -> None:
        message = module.encode()[:MODULE_BYTES].ljust(MODULE_BYTES)
        with self._lock:
            for _ in range(2):  # who is dead is started again, once
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    socket.send_fds(self._running(), [message], descriptors)
                    return
                self._end()
        raise EnvironmentMismatchError(
            "no process can be started to handle the model in", fix="see `infopt doctor`"
        )

    def _running(self) -> socket.socket:
        if self._control is not None and self._owner == os.getpid():
            return self._control
        self._control, theirs = socket.socketpair()
        self._owner = os.getpid()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "planner.graph.sandbox_child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=child_environment(),
            )
        return self._control

    def rest(self) -> None:
        """Ends the process, and gives its memory back; the next call starts another."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        control, process = self._control, self._process
        self._control = self._process = None
        if control is not None:
            control.close()
        if process is None or self._owner != os.getpid():
            return
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


NURSERY = Nursery()
atexit.register(NURSERY.rest)


def child_environment() -> dict[str, str]:
    """Ours, made deterministic and frugal: stable hashes, one BLAS thread, our import path."""
    paths = [path for path in sys.path if path]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def _received(ours: socket.socket, end: float) -> bytes:
    """Everything until the other side is gone."""
    parts: list[bytes] = []
    while True:
        ours.settimeout(max(end - time.monotonic(), 0.001))
        try:
            part = ours.recv(_CHUNK_BYTES)
        except ConnectionResetError:  # it died with a part of the request unread
            return b"".join(parts)
        if not part:
            return b"".join(parts)
        parts.append(part)
