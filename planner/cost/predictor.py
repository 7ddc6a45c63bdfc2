"""Predicts what kernels, collectives and copies cost on a device from its profile and its fits.

The interface other floors build on:

    predictor = Predictor(device, node)              # DeviceProfile, NodeProfile | None
    predictor.why_not("fp8")                         # None, or the reason the device lacks it
    predictor.kernel(Product(m=512, n=4096, k=4096)) # -> Cost: low/expected/high us, source
    predictor.kernels(works)                         # -> many at once, much faster than one by one
    predictor.collective("all_reduce", size_bytes, ranks)   # -> Cost
    predictor.transfer("host", "device", size_bytes)        # -> Cost
    predictor.launch_us                              # of one kernel behind another, on the device
    predictor.memory                                 # MemoryModel: what a model occupies
    predictor.runtime_context_bytes                  # what context and libraries occupy
    predictor.bare_context_bytes                     # what the driver's context alone does
    predictor.workspace_bytes                        # what the libraries of products ask for

`kernel` takes any `planner.cost.work.Work` (Product, Convolution, Attention, Traffic, Recurrence)
and includes one launch. Prices are for dense data and warm libraries, kernels queued one behind
the other; what a framework adds on the host is not in them. `size_bytes` of a collective is the
whole tensor: what every rank holds before an all_reduce and a reduce_scatter, after an all_gather,
sends in an all_to_all, and the message of a send_recv. Prices of equal work are kept, so asking
twice is cheap. `transfer` is between `host`, `device` and `peer` (a neighbour's memory), one
direction, nothing else on the link.

The source of a price is `interpolated` where the device's own measurements were fitted, and
`modelled` where parameters come from other devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from planner.cost import collective, curves, memory
from planner.cost.curves import Library, is_named
from planner.cost.family import FAMILIES, as_product, family_of, is_depthwise
from planner.cost.fitted import Array, Fitted
from planner.cost.links import Messages
from planner.cost.machine import Machine
from planner.cost.network import link_bytes_per_us
from planner.cost.work import Convolution, Flow, Product, Recurrence, Traffic, Work
from planner.errors import UsageError
from planner.ir.cost import Cost, Source
from planner.spec.node import Domain, NodeProfile
from planner.spec.profile import DeviceProfile

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"]
Place = Literal["host", "device", "peer"]

_LAUNCH_US = 2.0
"""Kernel behind kernel on a stream; 1.7 to 1.9 measured on an H200."""
_LONGEST_START_US = 15.0
"""No kernel takes longer to start: what a fit holds beyond is the clock that measured it."""
_WORKSPACE_BYTES = 32 * 2**20
"""cuBLAS on sm_90 asks for 32 MiB."""
_COPY_SHARE = 0.85
"""Of a datasheet rate that large pinned copies reach: 55.5 of 63 GB/s measured on an H200."""
_COPY_SPREAD = (0.85, 1.3)


class Predictor:
    """Prices on one device and its node."""

    def __init__(
        self,
        device: DeviceProfile,
        node: NodeProfile | None = None,
        library: Library | None = None,
        collectives: str = "nccl",
        *,
        as_measured: bool = False,
        like: str | None = None,
    ) -> None:
        """
        Args:
            library: what was learnt; what ships with infopt where it is None.
            collectives: the implementation that runs them.
            as_measured: whether a price contains what the way of measuring added to each kernel:
                some published times include a host's launch and synchronisation.
            like: source of measurements whose kernels are meant, on a device it has not measured.
        """
        self.device = device
        self.node = node
        self.machine = Machine.of(device)
        self.launch_us = device.launch.value if device.launch else _LAUNCH_US
        self.workspace_bytes = float(_WORKSPACE_BYTES)
        self._library = library or curves.shipped(device.name, device.architecture)
        self.memory = memory.find(self._library)
        self._collectives = collectives
        self._as_measured = as_measured
        self._like = like
        self._known: dict[Work, Cost] = {}
        self._fits: dict[str, Fitted] = {}

    @property
    def runtime_context_bytes(self) -> float:
        """What driver, libraries and allocators keep."""
        return self.memory.context_bytes

    @property
    def bare_context_bytes(self) -> float:
        """What the driver keeps of an engine that loads no library."""
        return min(memory.DRIVER_BYTES, self.memory.context_bytes)

    def why_not(self, format: str) -> str | None:
        """The reason why the device cannot multiply in this format, or None."""
        if self.machine.rate(format) > 0:
            return None
        return f"{self.device.title} has no {format} arithmetic"

    def kernel(self, work: Work) -> Cost:
        """The latency of one kernel, launch included.

        Raises:
            UsageError: the device lacks the format.
        """
        return self.kernels([work])[0]

    def kernels(self, works: Sequence[Work]) -> list[Cost]:
        """The latency of each kernel.

        Raises:
            UsageError: the device lacks a format.
        """
        fresh = {work: None for work in works if work not in self._known}
        groups: dict[str, list[Work]] = {}
        for work in fresh:
            if isinstance(work, Recurrence):
                self._known[work] = self._recurrence(work)
                continue
            if isinstance(work, Convolution) and is_depthwise(work):
                self._known[work] = self.kernel(_depthwise(work))
                continue
            groups.setdefault(family_of(work), []).append(work)
        for key, group in groups.items():
            self._price(key, group)
        return [self._known[work] for work in works]

    def collective(self, kind: Collective, size_bytes: float, ranks: int) -> Cost:
        """The latency of one collective.

        Raises:
            UsageError: the node cannot host so many ranks.
        """
        if ranks <= 1:
            return Cost(0.0, 0.0, 0.0, Source.MODELLED)
        domain = self.node.domain(ranks) if self.node else None
        if domain is None:
            where = self.node.title if self.node else self.device.title
            raise UsageError(f"{where} cannot host {ranks} ranks", where="collective")
        return self._collective(kind, size_bytes, ranks, domain)

    def transfer(self, source: Place, target: Place, size_bytes: float) -> Cost:
        """The latency of one copy.

        Raises:
            UsageError: the device has no such link.
        """
        far = "host" if "host" in (source, target) else "peer"
        link = self.device.links.get(far)
        if link is None:
            raise UsageError(f"{self.device.title} has no link to a {far}", where="transfer")
        is_measured = link.bandwidth.source.startswith("measured")
        rate = link.bandwidth.value * (1.0 if is_measured else _COPY_SHARE) / 1e6
        latency_us = link.latency.value + size_bytes / rate
        return _cost(latency_us, _COPY_SPREAD, Source.MODELLED)

    def fit(self, key: str) -> Fitted:
        """The curve that prices a family in a format, `product/fp16`."""
        if key not in self._fits:
            self._fits[key] = self._library.find(self.device, key, self._like)
        return self._fits[key]

    def _price(self, key: str, works: Sequence[Work]) -> None:
        family, _, format = key.partition("/")
        if family != "traffic":
            reason = self.why_not(format)
            if reason is not None:
                raise UsageError(reason, where="kernel")
        model, fit = FAMILIES[family], self.fit(key)
        columns = model.columns(works, format)
        latencies = fit.latencies_us(model, columns, self.machine)
        start = fit.start_us
        if start > _LONGEST_START_US and not self._as_measured:
            latencies = np.maximum(latencies - start + self.launch_us, self.launch_us)
        latencies = np.maximum(latencies, self._least_us(works, family, format, fit))
        source = Source.INTERPOLATED if fit.is_own else Source.MODELLED
        edges = fit.edges(latencies, model.extent(columns))
        if self._like is None:
            edges[:, 0] = np.maximum(edges[:, 0], self._floor_us(works, family, format) / latencies)
        for work, latency_us, (low, high) in zip(
            works, latencies.tolist(), edges.tolist(), strict=True
        ):
            self._known[work] = _cost(latency_us, (low, high), source)

    def _floor_us(self, works: Sequence[Work], family: str, format: str) -> Array:
        """What no kernel can do without, whatever its library: arithmetic at the datasheet's rate,
        which board power may not sustain, and bytes beyond the cache."""
        sustained = self.machine.rate(format) if family != "traffic" else np.inf
        listed = self.device.peak[format].value / 1e6 if format in self.device.peak else 0.0
        moved = np.array([work.size_bytes for work in works]) - self.machine.cache_size_bytes
        arithmetic = np.array([work.flops for work in works]) / max(sustained, listed)
        floor: Array = np.maximum(arithmetic, moved / self.machine.bandwidth)
        return floor

    def _least_us(self, works: Sequence[Work], family: str, format: str, fit: Fitted) -> Array:
        """Arithmetic at the device's rate, and bytes beyond the cache at its bandwidth.

        A source's own kernels may be foretold below the bytes that their description moves:
        published decode attentions of an A100 read keys and values at 1.7 times its bandwidth, so
        that their caches hold less than they say.
        """
        rate = self.machine.rate(format) if family != "traffic" else np.inf
        arithmetic = np.array([work.flops for work in works]) / rate
        if self._like is not None and is_named(fit.source, self._like):
            return arithmetic
        moved = np.array([work.size_bytes for work in works]) - self.machine.cache_size_bytes
        least: Array = np.maximum(arithmetic, moved / self.machine.bandwidth)
        return least

    def _recurrence(self, work: Recurrence) -> Cost:
        """Inputs of all steps as one product; then the steps, one behind the other."""
        width = work.gates * work.hidden * work.directions
        whole = Product(work.steps * work.batch, width, work.inputs, format=work.format)
        step = Product(work.batch, width, work.hidden, format=work.format)
        inputs, one = self.kernels([whole, step])
        return inputs + one.scaled(work.steps)

    def _collective(self, kind: str, size_bytes: float, ranks: int, domain: Domain) -> Cost:
        key = f"{kind}/{self._collectives}/{domain.fabric}"
        link = np.array([link_bytes_per_us(self.node, domain, key, ranks)])
        columns = (np.array([size_bytes]), np.array([float(ranks)]), link)
        works = Messages(kind, *columns, self._collectives, domain.fabric)
        fit = collective.find(self._library, key)
        latencies = collective.latencies_us(works, fit)
        low, high = fit.edges(latencies, collective.extent(works))[0].tolist()
        return _cost(float(latencies[0]), (low, high), Source.MODELLED)


def _depthwise(work: Convolution) -> Traffic:
    plain = as_product(work)
    written = plain.m * work.channels_out * 2.0
    return Traffic(work.size_bytes - written, written, Flow.REDUCTION)


def _cost(latency_us: float, band: tuple[float, float], source: Source) -> Cost:
    return Cost(latency_us * band[0], latency_us, latency_us * band[1], source)
