"""What the kernels of a whole model add up to, and what software adds to them.

    device  = product * products + convolution * convolutions + attention * attentions
              + flow * flows + gap * kernels + links + stream * loads
    host    = dispatch * operators
    latency = fixed + the 4-norm of device and host

Products, convolutions, attentions and flows are sums of predicted kernels without their starts; the
factors are learnt per software, held by priors, and apply to any device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.tables.architectures import Transformer
from benchmarks.tables.offload import Placement, host_us, unpacked_bytes
from benchmarks.tables.software import collectives_of
from benchmarks.tables.wholes import Whole
from planner.cost.curves import Library
from planner.cost.family import family_of
from planner.cost.predictor import Collective, Predictor
from planner.cost.work import Attention, Convolution, Experts, Product, Work
from planner.errors import UsageError
from planner.spec.node import NodeProfile
from planner.spec.profile import DeviceProfile

Array = npt.NDArray[np.float64]

PRIOR: Mapping[str, tuple[float, float]] = {
    "product": (1.0, 0.25),
    "convolution": (1.0, 0.25),
    "attention": (0.8, 0.5),
    "flow": (1.0, 0.5),
    "gap": (1.2, 0.8),
    "dispatch": (2.5, 1.0),
    "fixed": (15.0, 1.0),
    "stream": (1.0, 0.4),
}
"""Factor -> (typical value, spread in natural logarithm); `gap`, `dispatch` and `fixed` in
microseconds, `stream` the part of streams from the host that computation does not hide."""
FEATURES = (
    *("product", "convolution", "attention", "flow"),
    *("kernels", "operators", "links", "loads"),
)
"""Columns of what a row's kernels add up to, microseconds or counts."""
_SHARPNESS = 4.0
_LEAST_SHARE = 0.15
"""Of a kernel's latency that is no start, at least."""


class Pricer:
    """Sums of predicted kernels for many rows."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._predictors: dict[tuple[str, str, str | None, str], Predictor] = {}
        self._bare: dict[tuple[str, Work], float] = {}

    def predictor(
        self,
        device: DeviceProfile,
        node: NodeProfile | None,
        like: str | None = None,
        collectives: str = "nccl",
    ) -> Predictor:
        """One for each device, machine, source of measurements and software of collectives."""
        key = (device.name, node.name if node else "", like, collectives)
        if key not in self._predictors:
            self._predictors[key] = Predictor(
                device, node, self._library, collectives, as_measured=True, like=like
            )
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
                start = predictor.fit(family_of(work)).start_us
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
            sums["flow"] += count * one.read_size_bytes / (case.device.memory_bandwidth.value / 1e6)
            for size, times in one.reductions.items():
                sums["links"] += count * times * self._collective(case, "all_reduce", size)
            for size, times in one.hops.items():
                sums["links"] += count * times * self._hop(case, size)
        if case.placement is not None and case.model is not None:
            self._add_host(case, case.placement, case.model, sums)
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

    def _collective(
        self, case: Whole, kind: Collective, size_bytes: float, ranks: int | None = None
    ) -> float:
        """Not a number where the machine does not host the ranks."""
        software = collectives_of(case.runtime)
        predictor = self.predictor(case.device, case.node, collectives=software)
        degree = case.row.number("tp", 1) if ranks is None else ranks
        try:
            return predictor.collective(kind, size_bytes, degree).expected_us
        except UsageError:
            return float("nan")

    def _hop(self, case: Whole, size_bytes: float) -> float:
        """Of one boundary between stages: on average over those inside and between machines."""
        stages = case.row.number("pp", 1)
        held = case.node.devices if case.node else 1
        machines = -(-stages * case.row.number("tp", 1) // held)
        far = min(stages - 1, machines - 1) / max(stages - 1, 1)
        hop = 0.0
        if far < 1:
            hop += (1 - far) * self._collective(case, "send_recv", size_bytes, 2)
        if far > 0:
            hop += far * self._collective(case, "send_recv", size_bytes, held + 1)
        return hop


def latencies_us(features: Array, at: Mapping[str, float]) -> Array:
    """Microseconds of each row in one software."""
    product, convolution, attention, flow, kernels, operators, links, loads = features.T
    device = at["product"] * product + at["convolution"] * convolution
    device = device + at["attention"] * attention + at["flow"] * flow
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
    if isinstance(work, Product | Experts):
        return "product"
    if isinstance(work, Convolution):
        return "convolution"
    return "attention" if isinstance(work, Attention) else "flow"
