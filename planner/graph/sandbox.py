"""Runs a function in a fresh process with limits: what hangs, explodes or crashes cannot hurt us.

onnx.checker, shape inference, inlining, folding and ONNX Runtime are C++ that trusts its input; a
model is somebody else's input. So whatever may hang, allocate or abort runs here and comes back as
a value, or as a `ModelError` that says what happened.

Why not multiprocessing? Its spawn method imports the caller's `__main__` again, which runs a
user's script twice; and its queues leave no room for a wall-clock limit with a clean kill.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, ParamSpec, TypeVar, cast

from planner import errors
from planner.errors import InfoptError, ModelError
from planner.units import format_size

P = ParamSpec("P")
T = TypeVar("T")

_MIB = 2**20
_GIB = 2**30
_TAIL_BYTES = 4096
_MEMORY_WORDS = ("bad_alloc", "cannot allocate memory", "memoryerror", "out of memory")


class LimitError(ModelError):
    """The call was ended from outside: time, memory, or a crash. Trying again will not help."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one sandboxed call may use."""

    wall_s: float = 60.0
    """Seconds until it is killed."""
    memory_size_bytes: int = 3 * _GIB
    """Address space. Generous: libraries reserve far more than they touch."""
    memory_factor: float = 8.0
    """Further bytes for each byte of the model: parsing and rewriting keep several copies."""
    wall_s_per_gib: float = 60.0
    """Further seconds for each GiB of the model."""

    def for_size(self, size_bytes: int) -> Bounds:
        """The bounds of a call that handles a model of this size."""
        return Bounds(
            wall_s=self.wall_s + self.wall_s_per_gib * size_bytes / _GIB,
            memory_size_bytes=self.memory_size_bytes + int(self.memory_factor * size_bytes),
            memory_factor=0.0,
            wall_s_per_gib=0.0,
        )


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A fresh process for each call; `task` and `where` word its errors."""

    task: str
    """What the call does, as in `checking the model`."""
    where: str
    """File the call is about."""
    bounds: Bounds = field(default_factory=Bounds)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args, **kwargs)` elsewhere; a module-level function, arguments that pickle.

        Raises:
            InfoptError: the one that the function raised.
            ModelError: it raised something else, crashed, ran out of time or memory.
        """
        request = pickle.dumps((function, args, kwargs))
        with tempfile.TemporaryFile() as stderr:
            answer, returncode = self._run(request, stderr)
            return cast(T, self._read(answer, returncode, _tail(stderr)))

    def _limits(self) -> tuple[str, str]:
        cpu_s = int(self.bounds.wall_s * (os.cpu_count() or 1)) + 1
        return str(self.bounds.memory_size_bytes), str(cpu_s)

    def _run(self, request: bytes, stderr: IO[bytes]) -> tuple[bytes, int]:
        """The child's answer and exit code, and no child left behind whatever happens."""
        command = [sys.executable, "-P", "-m", "planner.graph.sandbox_child", *self._limits()]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=stderr, env=_environment()
        ) as process:
            try:
                answer, _ = process.communicate(request, timeout=self.bounds.wall_s)
            except subprocess.TimeoutExpired:
                raise self._too_slow() from None
            finally:
                process.kill()
        return answer, process.returncode

    def _read(self, answer: bytes, returncode: int, tail: str) -> object:
        if returncode != 0 or not answer:
            raise self._crashed(returncode, tail)
        kind, *rest = pickle.loads(answer)
        if kind == "done":
            return rest[0]
        if kind == "refused":
            name, what, where, fix = rest
            refusal: type[InfoptError] = getattr(errors, name, ModelError)
            raise refusal(what, where=where, fix=fix)
        if kind == "memory":
            raise self._too_large()
        name, text = rest
        raise ModelError(f"{self.task} failed: {name}: {text}", where=self.where)

    def _too_slow(self) -> LimitError:
        return LimitError(
            f"{self.task} did not finish within {self.bounds.wall_s:.0f} s",
            where=self.where,
            fix="simplify the model before planning it, or check that it is not malformed",
        )

    def _too_large(self) -> LimitError:
        return LimitError(
            f"{self.task} needs more than {format_size(self.bounds.memory_size_bytes)} of memory",
            where=self.where,
            fix="check the model's dimensions; a damaged one can declare any size",
        )

    def _crashed(self, returncode: int, tail: str) -> LimitError:
        if any(word in tail.lower() for word in _MEMORY_WORDS) or returncode == -signal.SIGKILL:
            return self._too_large()
        if returncode == -signal.SIGXCPU:
            return self._too_slow()
        how = signal.Signals(-returncode).name if returncode < 0 else f"exit code {returncode}"
        last = tail.strip().splitlines()[-1:] or ["nothing on stderr"]
        return LimitError(f"{self.task} crashed ({how}): {last[0][:400]}", where=self.where)


def _environment() -> dict[str, str]:
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


def _tail(stream: IO[bytes]) -> str:
    """The end of what the child said on stderr."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL_BYTES))
    return stream.read().decode(errors="replace")
