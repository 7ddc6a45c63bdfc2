"""The planner's side of the measuring process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import ModelError
from planner.profiling.ceilings import ProbeSpec, Timed
from planner.profiling.kernel import Kernel
from planner.profiling.launch import Closing, start
from planner.profiling.store import KernelTime
from planner.profiling.timing import Interval

_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class AnalysedModel:
    """What a model executes at one graph level."""

    number: int
    """The worker's id of this analysis."""
    kernels: tuple[Kernel, ...]
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    """Observed dtype and shape of every activation, by name."""
    constants: frozenset[str]

    @property
    def constant_size_bytes(self) -> int:
        return sum(kernel.constant_size_bytes for kernel in self.kernels)

    @property
    def held_size_bytes(self) -> int:
        """What the measuring process holds of it: constants and every activation."""
        made = sum(kernel.output_size_bytes for kernel in self.kernels)
        return self.constant_size_bytes + made


class WorkerDied(Exception):  # noqa: N818  an event, handled by the caller
    """The measuring process ended in the middle of a request."""


class MeasuringProcess(Closing):
    """One measuring process with its own thread pool of `threads`; restarted when it dies."""

    def __init__(self, threads: int, scratch: Path | None = None) -> None:
        self.threads = threads
        self._places = {"TMPDIR": str(scratch)} if scratch is not None else {}
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return start(
            "planner.profiling.worker",
            str(self.threads),
            own={"OMP_NUM_THREADS": str(self.threads), **self._places},
        )

    def close(self) -> None:
        """Ends the process; by force if it does not listen."""
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(_STOP_S if sys.exc_info()[0] is None else 0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def restart(self) -> None:
        """A fresh process; analyses of the old one are gone."""
        self.close()
        self._process = self._start()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerDied from error

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerDied
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ModelError(f"ONNX Runtime refused it: {reply['error'][:600]}")
        return reply

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request, one reply."""
        self._send(request)
        return self._receive()

    def analyse(self, model_path: Path, level: str, feeds_path: Path) -> AnalysedModel:
        """What the model executes at `level` on these feeds.

        Raises:
            ModelError: ONNX Runtime cannot load or run it.
        """
        request = {
            "do": "analyse",
            "model": str(model_path),
            "level": level,
            "feeds": str(feeds_path),
        }
        try:
            reply = self.ask(request)
        except WorkerDied as error:
            self.restart()
            raise ModelError("ONNX Runtime died while loading or running it") from error
        kernels = tuple(_kernel(entry) for entry in reply["kernels"])
        tensors = {name: (dtype, tuple(shape)) for name, (dtype, shape) in reply["tensors"].items()}
        return AnalysedModel(reply["analysis"], kernels, tensors, frozenset(reply["constants"]))

    def measure(
        self,
        analysed: AnalysedModel,
        requests: Sequence[tuple[int, str, int]],
        *,
        budget_s: float,
        alone: bool = True,
    ) -> Iterator[tuple[str, KernelTime]]:
        """Times kernels; yields (key, time) as they come.

        Each runs alone where it can, or, if not `alone`, is read off runs of its whole graph. Who
        stops reading in the middle waits for the rest, so that the next request gets its own reply.

        Raises:
            WorkerDied: a kernel took the process down; those not yielded are not measured.
        """
        self._send(
            {
                "do": "measure",
                "analysis": analysed.number,
                "requests": [list(request) for request in requests],
                "budget_s": budget_s,
                "alone": alone,
            }
        )
        while "done" not in (reply := self._receive()):
            try:
                yield reply["key"], KernelTime(**reply["time"])
            except GeneratorExit:
                self._skip_to_end()
                raise

    def _skip_to_end(self) -> None:
        with contextlib.suppress(WorkerDied, ModelError):
            while "done" not in self._receive():
                pass

    def forget(self, analysed: AnalysedModel) -> None:
        """Lets the process give back what it holds of an analysis."""
        self.ask({"do": "forget", "analysis": analysed.number})

    def overhead(self, analysed: AnalysedModel) -> KernelTime:
        """What one call of this model costs besides its kernels."""
        return KernelTime(**self.ask({"do": "overhead", "analysis": analysed.number})["overhead"])

    def change(self) -> KernelTime:
        """What a kernel takes longer among others than among copies of itself."""
        return KernelTime(**self.ask({"do": "change"})["change"])

    def reference_us(self, seconds: float = 0.1) -> float:
        """The machine's reference probe now, with this process' threads."""
        return float(self.ask({"do": "reference", "seconds": seconds})["reference_us"])

    def probe(self, specs: Sequence[ProbeSpec], budget_s: float) -> list[Timed | str]:
        """Times probes of the device (see `planner.profiling.probes`); a string says why not.

        Raises:
            ModelError: the process died of one.
        """
        request = {"do": "probe", "specs": [list(spec) for spec in specs], "budget_s": budget_s}
        try:
            reply = self.ask(request)
        except WorkerDied as error:
            self.restart()
            raise ModelError("ONNX Runtime died while this device was measured") from error
        return [_timed(entry) for entry in reply["timed"]]


def _timed(entry: dict[str, Any]) -> Timed | str:
    if "refused" in entry:
        return str(entry["refused"])
    return Timed(Interval(**entry["interval_us"]), entry["work"])


def _kernel(entry: dict[str, Any]) -> Kernel:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Kernel(**fields)
