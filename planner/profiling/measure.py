"""Times kernels alone: batches of micro-models, interleaved, until their intervals are tight."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from tempfile import NamedTemporaryFile

import numpy as np
import onnxruntime as ort

from planner.profiling import micro
from planner.profiling.analyse import Analysis, micro_inputs, quiet_options
from planner.profiling.blank import Blank
from planner.profiling.call import Call
from planner.profiling.change import Change
from planner.profiling.item import Item, Request
from planner.profiling.kernel import Kernel
from planner.profiling.micro import copies_for
from planner.profiling.reference import Beside, Reference
from planner.profiling.store import KernelTime
from planner.profiling.timing import (
    Interval,
    Sample,
    fast_interval,
    interleave,
    is_torn,
    runner,
)

_BATCH_BYTES = 64 * 2**20
_BATCH_KERNELS = 24
_ROUNDS, _FEWEST_ROUNDS = 20, 5
"""Rounds between two looks at the intervals; the fewest give a median with some interval."""
_LONGEST_RUN_US = 5_000.0
"""A micro-model that takes longer is built again with fewer copies, for long kernels need no
averaging over copies, unless reading weights is much of what they do: fewer would fit a cache."""
_SECOND_LOOKS, _SURELY = 2, 4
"""Runs of one that took longer, but not so many times as long, before it is built again: it may
have been interrupted, and with fewer copies its weights would come from a nearer cache."""
_MEMORY_BYTES_PER_US = 1e4
"""A core reads at least so much from memory; kernels that take ten times as long as their weights
would, so, hardly care where those come from."""
_MUCH = 0.1
_FAST_RELATIVE = 1.1
"""Rounds count as run in the fast state up to this multiple of the fastest probe ever seen; slower
rounds, and those of kernels whose times are torn, are repeated for as long again as planned."""
_FIRST_LOOK_S = 0.5
"""How long the probe is run before anything is timed, to learn what fast is: longer than the
neighbours' usual spells of load."""
_WARM_UP_RUNS = 1
"""Runs of a micro-model right before each timed one. In a whole model the kernel before has just
written what this one reads, and buffers are used again at once; among micro-models that take turns,
a round of the others has driven both out of the private caches. Counted without: a `ReorderInput`
of 213 KB took 48 us, and 15 in the whole, so that models of many such kernels were predicted to
take a quarter longer than they do."""
_OVERHEAD_ROUNDS = _CHANGE_ROUNDS = 200


def _copies(kernel: Kernel, request: Request) -> int:
    return copies_for(kernel.constant_size_bytes, kernel.output_size_bytes, request.footprint)


class Meter:
    """Times kernels of one worker process, whose sessions share one thread pool."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        """Of the pool that the process was given."""
        self._reference = Reference(self._session)
        self._fastest_us = float("inf")
        self.reference_us(_FIRST_LOOK_S)

    def _session(self, model: bytes | str) -> ort.InferenceSession:
        options = quiet_options("disabled")
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def reference_us(self, seconds: float) -> float:
        """The reference probe in the machine's fast state, as far as it showed in this time."""
        sample = self._reference.beside().pool
        end = time.perf_counter() + seconds
        interleave([sample], 5, warm_up=3)
        while time.perf_counter() < end:
            interleave([sample], 10)
        return self._seen(sample)

    def _seen(self, probe: Sample) -> float:
        found = fast_interval(probe.times_us).median
        self._fastest_us = min(self._fastest_us, found)
        return found

    def _was_fast(self, probe: Sample) -> bool:
        """Whether the machine was in its fast state for a while during these rounds."""
        return self._seen(probe) <= _FAST_RELATIVE * self._fastest_us

    def measure(
        self, analysis: Analysis, requests: Sequence[Request], *, budget_s: float
    ) -> Iterator[tuple[Request, KernelTime | str]]:
        """Yields (request, time or the reason why it could not be timed), batch by batch."""
        share_s = budget_s / max(len(requests), 1)
        for batch in self._batches(analysis, requests):
            items: list[Item] = []
            for request in batch:
                try:
                    items.append(self._item(analysis, request))
                except Exception as error:  # noqa: BLE001  ONNX Runtime raises many kinds
                    yield request, _first_line(error)
            yield from self._run(items, share_s * len(items))

    def _batches(self, analysis: Analysis, requests: Sequence[Request]) -> Iterator[list[Request]]:
        batch: list[Request] = []
        size = 0
        for request in requests:
            kernel = analysis.kernels[request.index]
            copies = _copies(kernel, request)
            more = 2 * kernel.constant_size_bytes * copies + kernel.output_size_bytes
            if batch and (size + more > _BATCH_BYTES or len(batch) >= _BATCH_KERNELS):
                yield batch
                batch, size = [], 0
            batch.append(request)
            size += more
        if batch:
            yield batch

    def _item(self, analysis: Analysis, request: Request) -> Item:
        wanted = _copies(analysis.kernels[request.index], request)
        item = self._built(analysis, request, wanted)
        first_us = item.first_us
        if first_us <= _LONGEST_RUN_US or wanted == 1:
            return item
        size_bytes = analysis.kernels[request.index].constant_size_bytes * wanted
        if size_bytes / _MEMORY_BYTES_PER_US > _MUCH * first_us and request.footprint:
            return item
        return self._built(analysis, request, max(int(wanted * _LONGEST_RUN_US / first_us), 1))

    def _built(self, analysis: Analysis, request: Request, copies: int) -> Item:
        """The kernel's session with so many copies, after one run that also tells its length."""
        constants, activations = micro_inputs(analysis, request.index)
        built = micro.build(
            analysis.model.graph.node[request.index],
            constants,
            activations,
            opsets=analysis.model.opset_import,
            ir_version=analysis.model.ir_version,
            copies=copies,
        )
        with NamedTemporaryFile(suffix=".onnx") as file:  # a session of bytes holds them for good
            file.writelines(built.parts())
            file.flush()
            session = self._session(file.name)
        sample = Sample(request.key, runner(session, built.feeds), warm_up=_WARM_UP_RUNS)
        sample.once()
        if built.copies > 1 and _LONGEST_RUN_US < sample.times_us[0] < _SURELY * _LONGEST_RUN_US:
            interleave([sample], _SECOND_LOOKS)
        return Item(request, sample, built.copies, min(sample.times_us))

    def _run(
        self, items: Sequence[Item], budget_s: float
    ) -> Iterator[tuple[Request, KernelTime | str]]:
        if not items:  # none of the batch can be built alone
            return
        # Warm, as in a race, where a probe's turn is many runs: the two are compared.
        beside = self._reference.beside(warm_up=2)
        blank = Blank(self._session)
        for item in items:
            item.sample.times_us.clear()
        open_items = list(items)
        end = time.perf_counter() + budget_s
        last = end + budget_s
        while open_items:
            round_s = sum(item.round_us for item in open_items) / 1e6
            rounds = int(min(max(budget_s / (2 * max(round_s, 1e-6)), _FEWEST_ROUNDS), _ROUNDS))
            besides = [*beside.samples, *blank.samples]
            interleave([*besides, *(item.sample for item in open_items)], rounds, warm_up=1)
            is_fast, now = self._was_fast(beside.pool), time.perf_counter()
            open_items = [item for item in open_items if not (is_fast and item.is_tight())]
            if now > end and is_fast:
                open_items = [item for item in open_items if is_torn(item.sample.times_us)]
            if now > last:
                break
        for item in items:
            of = item.counted
            latency = item.latency(*blank.overheads_us(of))
            yield item.request, self._time(latency, of(beside.pool), of(beside.alone), item.sample)

    def overhead(self, analysis: Analysis) -> KernelTime:
        """What an engine's call of the analysed model costs besides its kernels: checking, feeding
        and fetching."""
        outputs = {
            value.name: analysis.values[value.name]
            for value in analysis.model.graph.output
            if value.name in analysis.values
        } or {"nothing": np.zeros(1, np.float32)}  # sequences cannot be made out of nothing
        feeds = {k: v for k, v in analysis.feeds.items() if k not in outputs}
        call = Call(self._session, feeds, outputs, analysis.model.opset_import)
        beside = self._reference.beside(warm_up=1)
        interleave([*beside.samples, *call.samples], _OVERHEAD_ROUNDS, warm_up=5)
        return self._at_once(call.latency(), beside)

    def change(self) -> KernelTime:
        """What a kernel takes longer among others than among copies of itself."""
        beside = self._reference.beside(warm_up=1)
        blank, change = Blank(self._session), Change(self._session)
        samples = [*beside.samples, *blank.samples, *change.samples]
        interleave(samples, _CHANGE_ROUNDS, warm_up=5)
        return self._at_once(change.latency(*blank.overheads_us(_fast_us)), beside)

    def _at_once(self, latency: Interval, beside: Beside) -> KernelTime:
        """What was timed in one go."""
        return self._time(latency, self._seen(beside.pool), _fast_us(beside.alone), beside.pool)

    def _time(
        self, latency: Interval, reference_us: float, alone_us: float, sample: Sample
    ) -> KernelTime:
        return KernelTime(
            latency.median, latency.low, latency.high, reference_us, len(sample.times_us),
            threads=self.threads, alone_us=alone_us,
        )  # fmt: skip


def _fast_us(sample: Sample) -> float:
    return fast_interval(sample.times_us).median


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
