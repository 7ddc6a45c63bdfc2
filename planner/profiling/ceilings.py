"""What this device can do at best: probes timed against the clock, a group at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnxruntime as ort

from planner.profiling.analyse import quiet_options
from planner.profiling.probes import Probe, make_probe
from planner.profiling.timing import Interval, Sample, interleave, median_interval, runner

ProbeSpec = tuple[str | int, ...]
"""Kind of probe and its arguments: `("gemm", "int8_dynamic", 32, 2048, 2048)`."""
_FEWEST_ROUNDS = 7
"""The fewest for which order statistics give a 95 % interval of the median (2 / 2**7 < 5 %)."""
_MOST_ROUNDS = 500
_WARM_UP_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Timed:
    """One probe: microseconds of a run, and the work (bytes, operations, nodes) in it."""

    interval_us: Interval
    work: float

    @property
    def rate(self) -> Interval:
        """Work per second; the interval's ends change places."""
        found = self.interval_us
        median, high, low = (self.work / us * 1e6 for us in (found.median, found.low, found.high))
        return Interval(median, low, high)


def time_probes(specs: Sequence[ProbeSpec], budget_s: float) -> list[Timed | str]:
    """Times probes against each other, round by round; a string says why one cannot run.

    Sessions share the process' thread pool and are gone afterwards, with their buffers.
    """
    probes = [make_probe(*spec) for spec in specs]
    prepared = [_prepared(probe) for probe in probes]
    samples = [sample for sample in prepared if isinstance(sample, Sample)]
    interleave(samples, _FEWEST_ROUNDS, warm_up=_WARM_UP_ROUNDS)
    end = time.perf_counter() + budget_s
    rounds = _FEWEST_ROUNDS
    while samples and time.perf_counter() < end and rounds < _MOST_ROUNDS:
        interleave(samples, 1)
        rounds += 1
    return [
        item if isinstance(item, str) else Timed(median_interval(item.times_us), probe.work)
        for probe, item in zip(probes, prepared, strict=True)
    ]


def _prepared(probe: Probe) -> Sample | str:
    """The probe, loaded and run once, or ONNX Runtime's reason against it."""
    try:
        options: Any = quiet_options("disabled")
        session = ort.InferenceSession(probe.model, options, providers=["CPUExecutionProvider"])
        sample = Sample(probe.name, runner(session, probe.feeds))
        sample.run()
    except Exception as error:  # noqa: BLE001  ONNX Runtime raises many kinds
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return sample
