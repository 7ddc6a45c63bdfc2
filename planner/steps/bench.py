"""Measuring processes and the store, together: every kernel is analysed and timed at most once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import inf
from types import TracebackType
from typing import Any

from planner.cost.table import Target, kernel_key
from planner.errors import ModelError
from planner.profiling.client import AnalysedModel, WorkerDied
from planner.profiling.kernel import METHOD_VERSION, Kernel
from planner.profiling.micro import footprint_class
from planner.profiling.store import KernelTime
from planner.spec.plan import Environment
from planner.steps.analysis import Analysis, Executable, analysis_of
from planner.steps.processes import Processes
from planner.steps.second_looks import Request, SecondLooks
from planner.steps.workspace import Workspace, digest

_SHORT_US = 4.0
"""ONNX Runtime runs kernels this short on the calling thread, however many there are: their time
with one thread is their time with all."""
_SECONDS_PER_KERNEL = 0.12
_MOST_SECONDS = 20.0
_ALONE_S = 1.0
"""For one kernel, after another took its process down."""
_SECOND_LOOK_S = 10.0
"""For all kernels of a pool that were timed while the machine was slow; as long again where it
stays so (`Meter.measure`)."""

Timed = tuple[str, KernelTime]
"""A key, and the time of what stands there."""


class Bench:
    """One measuring process per number of threads, started when first needed."""

    def __init__(self, work: Workspace, environment: Environment) -> None:
        self.work = work
        self.environment = environment
        self._processes = Processes(work.scratch)
        self._known: dict[str, Analysis] = {}
        self._keys: dict[tuple[str, int], list[str]] = {}
        self._fastest_us: dict[int, float] = {}
        """Threads -> the reference probe beside the kernel that saw the machine at its fastest."""

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.rest()

    def target(self, threads: int) -> Target:
        """This device with that many threads."""
        return Target(self.environment.device_digest, threads)

    def analysis(self, executable: Executable) -> Analysis:
        """What the model executes, from the store or by optimising and running it once."""
        key = digest(
            "analysis", METHOD_VERSION, executable.key, executable.level, executable.feeds_digest,
            self.environment.device_digest,
        )  # fmt: skip
        if key not in self._known:
            payload = self.work.once("analysis", key, lambda: self._analyse(executable))
            self._known[key] = analysis_of(payload)
        return self._known[key]

    def _analyse(self, executable: Executable) -> dict[str, Any]:
        live = self._processes.analysed(executable, threads=1)
        return {
            "kernels": [asdict(kernel) for kernel in live.kernels],
            "constants": sorted(live.constants),
            "tensors": live.tensors,
        }

    def rest(self) -> None:
        """Ends the measuring processes, and their memory."""
        self._processes.rest()

    def keys(self, executable: Executable, threads: int) -> list[str]:
        """The store's key of every kernel, in order."""
        name = (executable.name, threads)
        if name not in self._keys:
            analysis = self.analysis(executable)
            size = analysis.read_size_bytes
            kernels = analysis.kernels
            equal = {(one.signature, one.constant_size_bytes): one for one in kernels}
            keys = {mark: self._key(one, size, threads) for mark, one in equal.items()}
            self._keys[name] = [keys[one.signature, one.constant_size_bytes] for one in kernels]
        return self._keys[name]

    def _key(self, kernel: Kernel, model_size_bytes: int, threads: int) -> str:
        """Where the kernel's time with so many threads stands: short ones have but one."""
        alone_key = kernel_key(kernel, model_size_bytes, self.target(1))
        alone = self.work.store.kernel(alone_key) if threads > 1 else None
        if threads == 1 or (alone is not None and alone.latency_us <= _SHORT_US):
            return alone_key
        return kernel_key(kernel, model_size_bytes, self.target(threads))

    def missing(self, executable: Executable, threads: int) -> list[Request]:
        """Each distinct kernel that was never timed."""
        analysis = self.analysis(executable)
        size = analysis.read_size_bytes
        first: dict[str, int] = {}
        for index, key in enumerate(self.keys(executable, threads)):
            first.setdefault(key, index)
        return [
            (index, key, footprint_class(analysis.kernels[index].read_size_bytes, size))
            for key, index in first.items()
            if self.work.store.kernel(key) is None
        ]

    def measure(self, executables: Sequence[Executable], threads: int) -> int:
        """Times every kernel that the store does not know; returns how many.

        Interrupting keeps what was measured so far; the next run continues from there.
        """
        self._processes.rest(but=threads)
        total = sum(len(self.missing(executable, threads)) for executable in executables)
        done, looks = 0, SecondLooks(self._fastest_us.get(threads, inf))
        for executable in executables:
            for request in self._measured(executable, threads, looks):
                done += 1
                self.work.reporter.progress(done, max(total, done), request)
        self._look_again(threads, looks)
        # What is short with one thread is known only now.
        self._keys = {name: keys for name, keys in self._keys.items() if name[1] <= threads}
        return done

    def _measured(self, executable: Executable, threads: int, looks: SecondLooks) -> Iterator[str]:
        """Times and keeps, telling what after each."""
        requests = self.missing(executable, threads)
        if not requests:
            return
        asked = {request[1]: request for request in requests}
        analysis = self.analysis(executable)
        budget_s = min(_SECONDS_PER_KERNEL * len(requests), _MOST_SECONDS)
        for key, time in self._timed(executable, threads, requests, budget_s):
            self.work.store.keep("kernel", {key: time})
            looks.saw(executable, asked[key], time)
            yield f"{analysis.kernels[asked[key][0]].op_type} ({threads} threads)"

    def _look_again(self, threads: int, looks: SecondLooks) -> None:
        """Times once more what the machine was slow for; the time of its faster state stays."""
        store, reporter = self.work.store, self.work.reporter
        wanted = looks.wanted(store.kernel)
        count, done = sum(len(requests) for _, requests in wanted), 0
        for executable, requests in wanted:
            most_s = _SECOND_LOOK_S * len(requests) / count
            budget_s = min(_SECONDS_PER_KERNEL * len(requests), most_s)
            asked = {request[1]: request for request in requests}
            for key, time in self._timed(executable, threads, requests, budget_s):
                store.keep_faster(key, time)
                looks.saw(executable, asked[key], time)
                done += 1
                reporter.progress(done, count, f"once more ({threads} threads)")
        self._fastest_us[threads] = looks.fastest_us

    def _timed(
        self,
        executable: Executable,
        threads: int,
        requests: Sequence[Request],
        budget_s: float,
    ) -> Iterator[Timed]:
        left = {key: (index, key, footprint) for index, key, footprint in requests}
        try:
            live = self._processes.analysed(executable, threads)
            process = self._processes.of(threads)
            asked = self._located(executable, live, requests)
            for key, time in process.measure(live, asked, budget_s=budget_s):
                left.pop(key)
                yield key, time
        except WorkerDied:
            yield from self._one_by_one(executable, threads, list(left.values()))

    def _located(
        self,
        executable: Executable,
        live: AnalysedModel,
        requests: Sequence[Request],
    ) -> list[Request]:
        """The same requests, by the index that each kernel has in a live analysis.

        ONNX Runtime does not always optimise a model into the same order of kernels.

        Raises:
            ModelError: nor, here, into the same kernels.
        """
        kernels = self.analysis(executable).kernels
        positions = {kernel.signature: index for index, kernel in enumerate(live.kernels)}
        found = []
        for index, key, footprint in requests:
            if kernels[index].signature not in positions:
                raise ModelError(
                    f"ONNX Runtime optimised the model differently the second time: "
                    f"{kernels[index].op_type} is gone",
                    where=kernels[index].name,
                    fix="infopt cache clear, then plan again",
                )
            found.append((positions[kernels[index].signature], key, footprint))
        return found

    def _one_by_one(
        self, executable: Executable, threads: int, requests: Sequence[Request]
    ) -> Iterator[Timed]:
        """After a crash: a kernel at a time, in a process that is started anew when it dies.

        The whole model ran, or it could not have been analysed; so a kernel that takes ONNX
        Runtime down when it is alone is read off runs of the whole.

        Raises:
            ModelError: that takes it down as well.
        """
        self._processes.revive(threads)
        for request in requests:
            try:
                yield from self._one(executable, threads, request, alone=True)
            except WorkerDied:
                self._processes.revive(threads)
                yield from self._in_context(executable, threads, request)

    def _in_context(
        self, executable: Executable, threads: int, request: Request
    ) -> Iterator[Timed]:
        kernel = self.analysis(executable).kernels[request[0]]
        self.work.reporter.note(f"{kernel.name}: {kernel.op_type} runs only among the others")
        try:
            yield from self._one(executable, threads, request, alone=False)
        except WorkerDied:
            raise ModelError(
                f"{kernel.op_type} takes ONNX Runtime down while it is timed", where=kernel.name
            ) from None

    def _one(
        self, executable: Executable, threads: int, request: Request, *, alone: bool
    ) -> Iterator[Timed]:
        live = self._processes.analysed(executable, threads)
        asked = self._located(executable, live, [request])
        process = self._processes.of(threads)
        yield from process.measure(live, asked, budget_s=_ALONE_S, alone=alone)

    def overhead(self, executable: Executable, threads: int) -> KernelTime:
        """What one call costs besides its kernels, from the store or measured: feeding inputs
        and fetching outputs, the same for all variants of one model."""
        key = digest(
            "call", METHOD_VERSION, executable.interface or executable.key,
            executable.feeds_digest, threads, self.environment.device_digest,
        )  # fmt: skip

        def compute() -> dict[str, Any]:
            live = self._processes.analysed(executable, threads)
            return asdict(self._processes.of(threads).overhead(live))

        return KernelTime(**self.work.once("overhead", key, compute))

    def change(self) -> KernelTime:
        """What a kernel takes longer among others than among the copies that it is timed with, from
        the store or measured."""
        key = digest("change", METHOD_VERSION, self.environment.device_digest)
        stored = self.work.once("change", key, lambda: asdict(self._processes.of(1).change()))
        return KernelTime(**stored)


def times_of(work: Workspace, keys: Sequence[str]) -> dict[str, KernelTime]:
    """What the store knows of these keys."""
    return {key: time for key in dict.fromkeys(keys) if (time := work.store.kernel(key))}
