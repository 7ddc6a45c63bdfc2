"""Rows that time, or weigh, a whole model: what runs, and how the software adds to it.

    device  = product * products + attention * attentions + flow * flows + gap * kernels + links
              + stream * loads
    host    = dispatch * operators
    latency = fixed + the 4-norm of device and host

Products, attentions and flows are sums of predicted kernels without their starts; the six factors
are learnt per software, held by priors, and apply to any device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.tables.graphs import Pass, Setting, residual_pass, transformer_pass
from benchmarks.tables.hardware import device_of, node_of
from benchmarks.tables.offload import Placement, host_us, placement_of, unpacked_bytes
from benchmarks.tables.precision import format_of
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.shapes import Transformer, residual_depths, transformer_of
from benchmarks.tables.software import UNFUSED, runtime_of
from planner.cost.curves import Library
from planner.cost.family import family_of
from planner.cost.predictor import Predictor
from planner.cost.work import Attention, Convolution, Product, Work
from planner.errors import UsageError
from planner.spec.node import NodeProfile
from planner.spec.profile import DeviceProfile

Array = npt.NDArray[np.float64]

PRIOR: Mapping[str, tuple[float, float]] = {
    "product": (1.0, 0.25),
    "attention": (0.8, 0.5),
    "flow": (1.0, 0.5),
    "gap": (1.2, 0.8),
    "dispatch": (2.5, 1.0),
    "fixed": (15.0, 1.0),
    "stream": (1.0, 0.4),
}
"""Factor -> (typical value, spread in natural logarithm); `gap`, `dispatch` and `fixed` in
microseconds, `stream` the part of streams from the host that computation does not hide."""
FEATURES = ("product", "attention", "flow", "kernels", "operators", "links", "loads")
"""Columns of what a row's kernels add up to, microseconds or counts."""
_SHARPNESS = 4.0
_LEAST_SHARE = 0.15
"""Of a kernel's latency that is no start, at least."""
_DEFAULT_CONTEXT = 128
"""Positions in the cache where a decode row states none."""


@dataclass(frozen=True, slots=True)
class Whole:
    """One row that runs a whole model."""

    row: Row
    device: DeviceProfile
    node: NodeProfile | None
    runtime: str
    format: str
    model: Transformer | None
    passes: tuple[tuple[Pass, float], ...]
    """What runs, and how often for one query."""
    hops: float
    """Messages between pipeline stages, per query."""
    hop_bytes: float
    scale: float
    """Value of the row = scale * latency in us, or scale / latency for a rate."""
    is_rate: bool
    placement: Placement | None

    @property
    def key(self) -> str:
        """Of the curve that its software is learnt into."""
        return f"{self.runtime}/{'offload' if self.placement else self.format}"

    def latency_us(self, value: float) -> float:
        """The latency behind a value, or the value of a latency: the map is its own inverse."""
        return self.scale / value if self.is_rate else value / self.scale

    def value(self, latency_us: float) -> float:
        """The value of a latency."""
        return self.scale / latency_us if self.is_rate else latency_us * self.scale


def whole_of(row: Row) -> Whole:
    """What a row runs.

    Raises:
        UnpredictableError: its model, device, format or metric is unknown.
    """
    device = device_of(row.gpu)
    runtime, format = runtime_of(row), format_of(row.precision, row.sparsity)
    is_fused = runtime not in UNFUSED
    depths = residual_depths(row)
    model = None if depths else transformer_of(row)
    if depths is None and model is None:
        raise UnpredictableError(f"model {row.model!r} is unknown")
    batch = row.number("batch", 1)
    placement = placement_of(row, runtime)
    if placement is not None and placement.packs_weights:
        format = "fp16"
    hops = hop_bytes = 0.0
    if depths is not None:
        stages, is_bottleneck = depths
        one = residual_pass(stages, is_bottleneck, batch, format, is_fused=is_fused)
        passes: tuple[tuple[Pass, float], ...] = ((one, 1.0),)
    elif model is not None:
        blocks = placement.batches if placement else 1
        passes = _transformer_passes(row, model, format, max(1, batch // blocks), is_fused)
        passes = tuple((one.times(blocks), count) for one, count in passes)
        stages_count = row.number("pp", 1)
        steps = max(1.0, sum(count for _, count in passes))
        hops, hop_bytes = (stages_count - 1) * steps, 2.0 * batch * model.hidden
    scale, is_rate = _unit(row, batch)
    return Whole(
        row=row,
        device=device,
        node=node_of(row, device),
        runtime=runtime,
        format=format,
        model=model,
        passes=passes,
        hops=hops,
        hop_bytes=hop_bytes,
        scale=scale,
        is_rate=is_rate,
        placement=placement,
    )


def _transformer_passes(
    row: Row, model: Transformer, format: str, batch: int, is_fused: bool
) -> tuple[tuple[Pass, float], ...]:
    degree = row.number("tp", 1)
    length = row.number("seq_in", _DEFAULT_CONTEXT if "decode" in row.metric else None)
    answer = row.number("seq_out", 0)
    if "remove padding" in row.notes:
        length = max(1, length // 2)
    base = Setting(batch, length, length, format, degree, is_fused, model.kind == "decoder")
    if model.kind == "encoder" or (not answer and "decode" not in row.metric):
        return ((transformer_pass(model, base), 1.0),)
    middle = length + max(answer, 1) // 2
    step = transformer_pass(model, replace(base, queries=1, keys=middle))
    if "decode" in row.metric:
        return ((step, 1.0),)
    return ((transformer_pass(model, base), 1.0), (step, float(max(answer - 1, 0))))


def _unit(row: Row, batch: int) -> tuple[float, bool]:
    """(scale, whether a rate) from microseconds to the row's value."""
    metric = row.metric.lower()
    if "tok" in metric and "per_s" in metric:
        tokens = 1 if "decode" in metric else row.number("seq_out", 1)
        return batch * tokens * 1e6, True
    if "throughput" in metric:
        return batch * 1e6, True
    for unit, scale in (("latency_us", 1.0), ("latency_ms", 1e-3), ("latency_s", 1e-6)):
        if unit in metric:
            return scale, False
    raise UnpredictableError(f"metric {row.metric!r} is not predicted")


class Pricer:
    """Sums of predicted kernels for many rows."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._predictors: dict[tuple[str, str], Predictor] = {}
        self._bare: dict[tuple[str, Work], float] = {}

    def predictor(self, device: DeviceProfile, node: NodeProfile | None) -> Predictor:
        """One for each device and machine."""
        key = (device.name, node.name if node else "")
        if key not in self._predictors:
            self._predictors[key] = Predictor(device, node, self._library, as_measured=True)
        return self._predictors[key]

    def features(self, cases: Sequence[Whole]) -> Array:
        """[cases, FEATURES]; not a number where a device lacks a format."""
        self._prepare(cases)
        return np.array([self._features(case) for case in cases]).reshape(-1, len(FEATURES))

    def _prepare(self, cases: Sequence[Whole]) -> None:
        """Prices all kernels of a device at once."""
        wanted: dict[str, dict[Work, None]] = {}
        profiles = {case.device.name: case.device for case in cases}
        for case in cases:
            works = wanted.setdefault(case.device.name, {})
            for one, _ in case.passes:
                works.update(dict.fromkeys(one.works))
        for name, works in wanted.items():
            predictor = self.predictor(profiles[name], None)
            usable = [w for w in works if _is_usable(predictor, w)]
            for work, cost in zip(usable, predictor.kernels(usable), strict=True):
                start = predictor.fit(family_of(work)).parameters["start"]
                least = _LEAST_SHARE * cost.expected_us
                self._bare[name, work] = max(cost.expected_us - start, least)

    def _features(self, case: Whole) -> list[float]:
        sums = dict.fromkeys(FEATURES, 0.0)
        for one, count in case.passes:
            for work, times in one.works.items():
                bare = self._bare.get((case.device.name, work), float("nan"))
                sums[_kind(work)] += count * times * bare
                sums["kernels"] += count * times
            sums["operators"] += count * one.operators
            for size, times in one.reductions.items():
                sums["links"] += count * times * self._collective(case, size)
        if case.placement is not None and case.model is not None:
            self._add_host(case, case.placement, case.model, sums)
        if case.hops:
            predictor = self.predictor(case.device, case.node)
            hop = predictor.collective("send_recv", case.hop_bytes, 2)
            sums["links"] += case.hops * hop.expected_us
        return list(sums.values())

    def _add_host(
        self, case: Whole, placement: Placement, model: Transformer, sums: dict[str, float]
    ) -> None:
        """What lies in host memory, and what 4-bit compression costs."""
        link, node = case.device.links["host"].bandwidth.value / 1e6, case.node
        memory = node.host_bandwidth.value / 1e6 if node else link
        batch = case.row.number("batch", 1)
        for i, (_, count) in enumerate(case.passes):
            queries = case.row.number("seq_in") if i == 0 else 1
            keys = case.row.number("seq_in") + (0 if i == 0 else case.row.number("seq_out", 0) // 2)
            streamed, serial = host_us(placement, model, (batch, queries, keys), link, memory)
            sums["loads"] += count * streamed
            sums["links"] += count * serial
            if placement.packs_weights or placement.packs_cache:
                moved = unpacked_bytes(placement, model, batch, keys)
                sums["flow"] += count * moved / (case.device.memory_bandwidth.value / 1e6)

    def _collective(self, case: Whole, size_bytes: float) -> float:
        predictor = self.predictor(case.device, case.node)
        degree = case.row.number("tp", 1)
        try:
            return predictor.collective("all_reduce", size_bytes, degree).expected_us
        except UsageError:
            return float("nan")


def latencies_us(features: Array, at: Mapping[str, float]) -> Array:
    """Microseconds of each row in one software."""
    product, attention, flow, kernels, operators, links, loads = features.T
    device = at["product"] * product + at["attention"] * attention + at["flow"] * flow
    device = device + at["gap"] * kernels + links + at["stream"] * loads
    host = at["dispatch"] * operators
    longest = np.maximum(device, host)
    power = _SHARPNESS
    both = longest * ((device / longest) ** power + (host / longest) ** power) ** (1 / power)
    total: Array = at["fixed"] + both
    return total


def _is_usable(predictor: Predictor, work: Work) -> bool:
    return not hasattr(work, "format") or predictor.why_not(work.format) is None


def _kind(work: Work) -> str:
    if isinstance(work, Product | Convolution):
        return "product"
    return "attention" if isinstance(work, Attention) else "flow"
