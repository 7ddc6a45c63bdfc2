"""Sound timing: everything that is compared is interleaved, round by round, in one process.

A round runs the machine's reference probe and every item once. A machine that slows down for a
while slows all of them down together, so ratios stay right, and the probe tells how fast the
machine was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from planner.profiling.kernel import Array
from planner.runtime.ort import bind_all

Run = Callable[[], object]

_PROBE_ROWS, _PROBE_WIDTH = 64, 256
"""Reference probe: one fp32 product 64 x 256 x 256 (8.4 MFLOP) and a 4 MiB addition."""
_PROBE_STREAM_ELEMENTS = 1 << 20


def probe_model() -> bytes:
    """The machine's reference probe: compute and memory traffic in the same session."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((_PROBE_WIDTH, _PROBE_WIDTH), dtype=np.float32) / _PROBE_WIDTH
    stream = rng.standard_normal(_PROBE_STREAM_ELEMENTS, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Add", ["s", "b"], ["t"]),
            helper.make_node("ReduceMax", ["t"], ["z"], keepdims=0),
        ],
        "probe",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [_PROBE_ROWS, _PROBE_WIDTH])],
        [onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="z")],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(stream, "s"),
            numpy_helper.from_array(np.ones((), np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def probe_feeds() -> dict[str, Array]:
    """Inputs of the reference probe."""
    rng = np.random.default_rng(1)
    return {"x": rng.standard_normal((_PROBE_ROWS, _PROBE_WIDTH), dtype=np.float32)}


def runner(session: ort.InferenceSession, feeds: Mapping[str, Array]) -> Run:
    """A call that runs the session once."""
    run = bind_all(session)[1]
    bound = dict(feeds)
    return lambda: run(bound)


@dataclass(slots=True)
class Sample:
    """Times of one item, a value a round, in microseconds."""

    name: str
    run: Run
    times_us: list[float] = field(default_factory=list)
    warm_up: int = 0
    """Runs before each timed one that are not kept."""

    def once(self) -> None:
        for _ in range(self.warm_up):
            self.run()
        start = time.perf_counter_ns()
        self.run()
        self.times_us.append((time.perf_counter_ns() - start) / 1e3)


def interleave(samples: Sequence[Sample], rounds: int, *, warm_up: int = 0) -> None:
    """Runs every sample once a round; warm-up rounds are not kept."""
    for _ in range(warm_up):
        for sample in samples:
            sample.run()
    for _ in range(rounds):
        for sample in samples:
            sample.once()


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and its 95 % interval (order statistics; no assumption on the distribution)."""

    median: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        return (self.high - self.low) / self.median if self.median > 0 else 0.0


def median_interval(values: Sequence[float]) -> Interval:
    """Median with the distribution-free 95 % interval of order statistics.

    The ranks n/2 ± 0.98 sqrt(n) enclose the median with 95 % confidence (normal approximation of
    the binomial; Conover, Practical Nonparametric Statistics, 3.2).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered)
    half = 0.98 * float(np.sqrt(count))
    low = max(int(np.floor(count / 2 - half)), 0)
    high = min(int(np.ceil(count / 2 + half)), count - 1)
    return Interval(float(np.median(ordered)), float(ordered[low]), float(ordered[high]))
