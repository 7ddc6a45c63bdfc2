"""The measuring process: `python -m planner.profiling.worker THREADS`.

It owns one thread pool that all its sessions share (idle pools of separate sessions spin against
each other), answers JSON requests on stdin, one a line, with JSON replies on stdout, and dies with
its parent. What a hostile or broken kernel does to it, it does to nobody else.

    {"do": "analyse", "model": path, "level": "all", "feeds": npz}     kernels of the graph
    {"do": "measure", "analysis": id, "budget_s": s, "alone": true,
     "requests": [[index, key, footprint], ...]}                       a reply a kernel, then "done"
    {"do": "overhead", "analysis": id}                                 what a call costs by itself
    {"do": "change"}                                   what a kernel costs behind another kind
    {"do": "reference", "seconds": s}                                  how fast the machine is now
    {"do": "probe", "specs": [[kind, argument, ...], ...],
     "budget_s": s}                                                    ceilings of the device
    {"do": "forget", "analysis": id}
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import onnxruntime as ort

from planner.profiling.analyse import Analysis, analyse, context_times_us
from planner.profiling.ceilings import time_probes
from planner.profiling.item import Request
from planner.profiling.measure import Meter
from planner.profiling.store import KernelTime
from planner.runtime.parent import die_with_parent
from planner.runtime.tensors import read_tensors

Reply = dict[str, Any]
Handler = Callable[[Reply], Iterator[Reply]]
_CONTEXT_RUNS = 40


class Worker:
    """State of the measuring process: its analyses, by id."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder = folder
        self.meter = Meter(threads)
        self.analyses: dict[int, Analysis] = {}
        self._numbers = count()

    def analyse(self, request: Reply) -> Iterator[Reply]:
        feeds = read_tensors(Path(request["feeds"]))
        analysis = analyse(Path(request["model"]), request["level"], feeds, self.folder)
        number = next(self._numbers)
        self.analyses[number] = analysis
        shapes = {name: [str(v.dtype), list(v.shape)] for name, v in analysis.values.items()}
        yield {
            "analysis": number,
            "kernels": [asdict(kernel) for kernel in analysis.kernels],
            "tensors": shapes,
            "unmeasurable": analysis.unmeasurable,
            "constants": list(analysis.constants),
        }

    def measure(self, request: Reply) -> Iterator[Reply]:
        analysis = self.analyses[request["analysis"]]
        wanted = [Request(*entry) for entry in request["requests"]]
        able = request["alone"]
        alone = [r for r in wanted if able and r.index not in analysis.unmeasurable]
        failed = [r for r in wanted if r not in alone]
        for done, result in self.meter.measure(analysis, alone, budget_s=request["budget_s"]):
            if isinstance(result, str):
                failed.append(done)
                continue
            yield {"key": done.key, "time": asdict(result)}
        if failed:
            yield from self._in_context(analysis, failed)
        yield {"done": True}

    def _in_context(self, analysis: Analysis, requests: list[Request]) -> Iterator[Reply]:
        """Kernels that cannot run alone are read off a profile of their whole graph."""
        times = dict(context_times_us(analysis, _CONTEXT_RUNS))
        reference_us = self.meter.reference_us(0.05)
        for request in requests:
            fast_us = max(times.get(analysis.kernels[request.index].name, 0.5), 0.5)
            time = KernelTime(
                fast_us,
                max(fast_us - 1, 0.1),
                fast_us + 1,
                reference_us,
                _CONTEXT_RUNS,
                True,
                self.meter.threads,
            )
            yield {"key": request.key, "time": asdict(time)}

    def overhead(self, request: Reply) -> Iterator[Reply]:
        yield {"overhead": asdict(self.meter.overhead(self.analyses[request["analysis"]]))}

    def change(self, _: Reply) -> Iterator[Reply]:
        yield {"change": asdict(self.meter.change())}

    def reference(self, request: Reply) -> Iterator[Reply]:
        yield {"reference_us": self.meter.reference_us(request["seconds"])}

    def probe(self, request: Reply) -> Iterator[Reply]:
        timed = time_probes([tuple(spec) for spec in request["specs"]], request["budget_s"])
        yield {"timed": [{"refused": t} if isinstance(t, str) else asdict(t) for t in timed]}

    def forget(self, request: Reply) -> Iterator[Reply]:
        analysis = self.analyses.pop(request["analysis"], None)
        if analysis is not None:
            analysis.discard()
        yield {"done": True}


def main(arguments: list[str]) -> None:
    """Serves requests until stdin ends."""
    die_with_parent()
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not mix with the replies
    ort.set_default_logger_severity(4)
    threads = int(arguments[0])
    ort.set_global_thread_pool_sizes(threads, 1)
    with tempfile.TemporaryDirectory(prefix="infopt-worker-") as folder:
        worker = Worker(Path(folder), threads)
        handlers: dict[str, Handler] = {
            "analyse": worker.analyse,
            "measure": worker.measure,
            "overhead": worker.overhead,
            "change": worker.change,
            "reference": worker.reference,
            "probe": worker.probe,
            "forget": worker.forget,
        }
        for line in sys.stdin:
            request = json.loads(line)
            for reply in _answered(handlers, request):
                replies.write(json.dumps(reply) + "\n")


def _answered(handlers: Mapping[str, Handler], request: Reply) -> Iterator[Reply]:
    """Its replies; an error is the last: the parent decides what a failure means."""
    try:
        yield from handlers[request["do"]](request)
    except Exception as error:  # noqa: BLE001
        yield {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main(sys.argv[1:])
