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
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ParamSpec, TypeVar, cast

from planner import errors
from planner.errors import InfoptError, ModelError
from planner.graph.nursery import NURSERY, Order, child_environment
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


MANY_RUNS = Bounds(wall_s=3600.0)
"""Of a call that runs a model on all samples, after one run is known to end: how long that takes is
for the samples and the machine to say, so this ends only what hangs."""


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
            answer, returncode = self._run(function.__module__, request, stderr)
            return cast(T, self._read(answer, returncode, _tail(stderr)))

    def _run(self, module: str, request: bytes, stderr: IO[bytes]) -> tuple[bytes, int]:
        """The child's answer and exit code, and no child left behind whatever happens."""
        wall_s = self.bounds.wall_s
        order = Order(
            memory_size_bytes=self.bounds.memory_size_bytes,
            cpu_s=int(wall_s * (os.cpu_count() or 1)) + 1,
            environment=child_environment(),
            import_path=tuple(path for path in sys.path if path),
            folder=_folder(),
        )
        try:
            return NURSERY.call(module, order, request, stderr, wall_s)
        except TimeoutError:
            raise self._too_slow() from None

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


def _folder() -> str:
    """The current folder; none where it was removed under us."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _tail(stream: IO[bytes]) -> str:
    """The end of what the child said on stderr."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL_BYTES))
    return stream.read().decode(errors="replace")
