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

_PROBE_ROWS, _PROBE_WIDTH, _PROBE_BLOCKS = 16, 128, 4
"""Reference probe: four blocks of product (16 x 128 x 128), softmax, residual and normalisation:
2.1 MFLOP on 256 KB of weights, some 40 microseconds. Long enough to be timed, short enough to fall
whole into one state of the machine, and made of what models are made of: between a quiet and a busy
neighbour on the same core, it changes as much as they do (1.4 to 1.7 times)."""
_SERIAL_ROWS, _SERIAL_BLOCKS = 1, 12
"""The same of one row, which takes about as long: no kernel is large enough to be shared, whatever
pool runs it (ONNX Runtime's profile counts no parallel region; two in each block of the other)."""
FAST_SHARE = 0.1
"""Times are compared at this quantile. Virtual cores share their hardware with neighbours: for
spells of 0.2 to 400 milliseconds everything takes 1.4 to 1.7 times as long. Medians jump between
the two states with the neighbours' load; the fast state stays within one percent."""
_TORN = 1.25
"""The interval of a quantile within one state is narrower than this; the slow state takes 1.4 times
as long."""


def probe_model() -> bytes:
    """The machine's reference probe."""
    return _blocks(_PROBE_ROWS, _PROBE_BLOCKS)


def serial_probe_model() -> bytes:
    """What one thread does alone in every pool: tells slow cores from threads that meet late."""
    return _blocks(_SERIAL_ROWS, _SERIAL_BLOCKS)


def _blocks(rows: int, blocks: int) -> bytes:
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}
    hidden = "x"
    for block in range(blocks):
        weight = rng.standard_normal((_PROBE_WIDTH, _PROBE_WIDTH), dtype=np.float32)
        constants[f"w{block}"] = weight / np.float32(np.sqrt(_PROBE_WIDTH))
        constants[f"g{block}"] = np.ones(_PROBE_WIDTH, np.float32)
        nodes += [
            helper.make_node("MatMul", [hidden, f"w{block}"], [f"m{block}"]),
            helper.make_node("Softmax", [f"m{block}"], [f"s{block}"]),
            helper.make_node("Add", [f"s{block}", hidden], [f"a{block}"]),
            helper.make_node("LayerNormalization", [f"a{block}", f"g{block}"], [f"h{block}"]),
        ]
        hidden = f"h{block}"
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [rows, _PROBE_WIDTH])],
        [onnx.ValueInfoProto(name=hidden)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def probe_feeds() -> dict[str, Array]:
    """Inputs of the reference probe."""
    return _rows(_PROBE_ROWS)


def serial_probe_feeds() -> dict[str, Array]:
    """Inputs of the serial one."""
    return _rows(_SERIAL_ROWS)


def _rows(count: int) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {"x": rng.standard_normal((count, _PROBE_WIDTH), dtype=np.float32)}


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
    """A median (or another quantile) and its 95 % interval, free of assumptions on the
    distribution."""

    median: float
    low: float
    high: float


def median_interval(values: Sequence[float]) -> Interval:
    """Median with its 95 % interval."""
    return quantile_interval(values, 0.5)


def fast_interval(values: Sequence[float]) -> Interval:
    """Time in the machine's fast state, with its 95 % interval: the quantile `FAST_SHARE`."""
    return quantile_interval(values, FAST_SHARE)


def is_torn(values: Sequence[float]) -> bool:
    """Whether these are of several states, and too few of the fast one for its quantile to hold."""
    found = fast_interval(values)
    return found.high > _TORN * found.low


def calm_interval(values: Sequence[float]) -> Interval:
    """`fast_interval`; where it is torn, its lower end counts: disturbances only ever add.

    Two threads that meet at the end of each of a micro-model's sixty copies need both cores for
    milliseconds; the probe of 60 microseconds still finds such moments on a machine where hardly a
    run in ten of the micro-model does.
    """
    found = fast_interval(values)
    return Interval(found.low, found.low, found.median) if is_torn(values) else found


def quantile_interval(values: Sequence[float], share: float) -> Interval:
    """The quantile `share` with its distribution-free 95 % interval of order statistics.

    The ranks n q ± 1.96 sqrt(n q (1 - q)) enclose the quantile q with 95 % confidence (normal
    approximation of the binomial; Conover, Practical Nonparametric Statistics, 3.2).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered)
    half = 1.96 * float(np.sqrt(count * share * (1 - share)))
    low = max(int(np.floor(count * share - half)), 0)
    high = min(int(np.ceil(count * share + half)), count - 1)
    middle = float(np.quantile(ordered, share))
    return Interval(middle, float(ordered[low]), float(ordered[high]))
