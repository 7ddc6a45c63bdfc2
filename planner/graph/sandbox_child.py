"""The other side of `sandbox`: forks for each call, which takes limits, runs and answers."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import resource
import select
import signal
import socket
import sys
from dataclasses import dataclass

from planner.errors import InfoptError
from planner.graph.nursery import MODULE_BYTES, STATUS, Order
from planner.runtime.parent import die_with_parent

_OURS = "planner."
_NEEDED = ("planner.graph.proto", "planner.runtime.ort")
"""They load onnx and ONNX Runtime."""


def _limit(memory_size_bytes: int, cpu_s: int) -> None:
    """Caps this process; where the system has no such cap, the parent's wall clock remains."""
    caps = (
        (resource.RLIMIT_AS, memory_size_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, value in caps:
        with contextlib.suppress(ValueError, OSError):
            hard = resource.getrlimit(kind)[1]
            soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (soft, hard))


def _outcome(request: bytes) -> tuple[object, ...]:
    try:
        function, args, kwargs = pickle.loads(request)
        return "done", function(*args, **kwargs)
    except InfoptError as error:
        return "refused", type(error).__name__, error.what, error.where, error.fix
    except MemoryError:
        return ("memory",)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the parent's to word
        return "failed", type(error).__name__, " ".join(str(error).split())[:2000]


def _call(channel: int, stderr: int) -> None:
    """One call, one answer, and out: nothing a library left behind can delay the exit."""
    os.dup2(stderr, 2)
    os.dup2(stderr, 1)  # C++ libraries print there
    with socket.socket(fileno=channel) as stream:
        with stream.makefile("rb") as asked:
            order: Order = pickle.load(asked)
            _obey(order)
            answer = _outcome(asked.read())
        stream.sendall(pickle.dumps(answer))
    sys.stdout.flush()
    sys.stderr.flush()


def _obey(order: Order) -> None:
    os.environ.clear()
    os.environ.update(order.environment)
    sys.path[:] = dict.fromkeys((*order.import_path, *sys.path))
    with contextlib.suppress(OSError):  # it was removed
        os.chdir(order.folder)
    _limit(order.memory_size_bytes, order.cpu_s)


@dataclass(frozen=True, slots=True)
class _Child:
    """A call that runs."""

    pid: int
    channel: int
    """Our end of its socket: whoever hangs up on the other side wants it dead."""


class _Nursery:
    """Forks on request, tells how each child ended, kills those nobody waits for."""

    def __init__(self, control: int) -> None:
        self._control = socket.socket(fileno=control)
        self._children: dict[int, _Child] = {}
        self._woken, waking = os.pipe()
        for end in (self._woken, waking):
            os.set_blocking(end, False)
        self._waking = waking
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def serve(self) -> None:
        """Until the planner is gone."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._control.fileno():
                    if not self._bear():
                        return self._kill_all()
                elif descriptor == self._woken:
                    self._reap()
                elif descriptor in self._children:
                    self._abandon(self._children[descriptor])

    def _bear(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, MODULE_BYTES, 2)
        if not message or len(descriptors) != 2:
            return False
        module = message.decode(errors="replace").strip()
        if module.startswith(_OURS):
            with contextlib.suppress(Exception):  # the call meets it again, and tells
                importlib.import_module(module)
        channel, stderr = descriptors
        pid = os.fork()
        if pid == 0:
            self._become(channel, stderr)
        os.close(stderr)
        self._children[channel] = _Child(pid, channel)
        self._poll.register(channel, 0)  # only that the other side hung up
        return True

    def _become(self, channel: int, stderr: int) -> None:
        """In the child: nothing of the nursery's is kept, or others would wait for us."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent()
            self._control.close()
            for descriptor in (self._woken, self._waking, *self._children):
                os.close(descriptor)
            _call(channel, stderr)
            code = 0
        finally:
            os._exit(code)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 512):
                pass
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == child.pid:
                self._bury(child, os.waitstatus_to_exitcode(status))

    def _bury(self, child: _Child, code: int) -> None:
        del self._children[child.channel]
        self._poll.unregister(child.channel)
        with contextlib.suppress(OSError), socket.socket(fileno=child.channel) as stream:
            stream.sendall(STATUS.pack(code))

    def _abandon(self, child: _Child) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        self._bury(child, -signal.SIGKILL)

    def _kill_all(self) -> None:
        for child in list(self._children.values()):
            self._abandon(child)


def main() -> None:
    """Loads what nearly every call needs, then serves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the planner's to handle
    for module in _NEEDED:
        importlib.import_module(module)
    _Nursery(int(sys.argv[1])).serve()


if __name__ == "__main__":
    main()
