"""The other side of `sandbox`: takes limits, reads one call from stdin, answers on stdout."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import resource
import signal
import sys

from planner.errors import InfoptError

_PR_SET_PDEATHSIG = 1


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


def _die_with_parent() -> None:
    """A killed parent leaves no busy orphan (Linux only; elsewhere the CPU limit ends it)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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


def main() -> None:
    """One call, one answer, and out: nothing a library left behind can delay the exit."""
    _die_with_parent()
    _limit(int(sys.argv[1]), int(sys.argv[2]))
    # C++ libraries print to file descriptor 1; the answer needs a channel of its own.
    channel = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(channel, "wb") as answer:
        pickle.dump(_outcome(sys.stdin.buffer.read()), answer)
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
