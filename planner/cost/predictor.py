"""Predicts what kernels, collectives and copies cost on a device from its profile.

The interface other floors build on:

    predictor = Predictor(device, node)              # DeviceProfile, NodeProfile | None
    predictor.why_not("fp8")                         # None, or the reason the device lacks it
    predictor.kernel(Product(m=512, n=4096, k=4096)) # -> Cost: low/expected/high us, source
    predictor.collective("all_reduce", size_bytes, ranks)   # -> Cost
    predictor.transfer("host", "device", size_bytes)        # -> Cost
    predictor.launch_us                              # of one kernel behind another, on the device
    predictor.runtime_context_bytes                  # what context and libraries occupy
    predictor.workspace_bytes                        # what the libraries of products ask for

`kernel` takes any `planner.cost.work.Work` (Product, Convolution, Attention, Traffic, Recurrence)
and includes one launch. Prices are for dense data and warm libraries, kernels queued one behind
the other; what a framework adds on the host is not in them. `size_bytes` of a collective is the
whole tensor: what every rank holds before an all_reduce and a reduce_scatter, after an all_gather,
sends in an all_to_all, and the message of a send_recv. Prices of equal work are kept, so asking
twice is cheap. `transfer` is between `host`, `device` and `peer` (a neighbour's memory), one
direction, nothing else on the link.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from planner.cost.work import Recurrence, Traffic, Work
from planner.errors import UsageError
from planner.ir.cost import Cost, Source
from planner.spec.node import NodeProfile
from planner.spec.profile import DeviceProfile

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"]
Place = Literal["host", "device", "peer"]

_LAUNCH_US = 2.0
"""Kernel behind kernel on a stream; 1.7 to 1.9 measured on an H200."""
_CONTEXT_BYTES = 500e6
"""CUDA context with cuBLAS and cuDNN loaded: 300 to 700 MB, by driver and libraries."""
_WORKSPACE_BYTES = 32 * 2**20
"""cuBLAS on sm_90 asks for 32 MiB."""
_RATE, _BANDWIDTH, _LINK = 0.75, 0.85, 0.8
"""Shares of datasheet rates that good kernels reach."""
_SPREAD = 2.0
"""95 % interval of an unfitted roofline: a factor of two either way."""


class Predictor:
    """Prices on one device and its node."""

    def __init__(self, device: DeviceProfile, node: NodeProfile | None = None) -> None:
        self.device = device
        self.node = node
        self.launch_us = device.launch.value if device.launch else _LAUNCH_US
        self.runtime_context_bytes = _CONTEXT_BYTES
        self.workspace_bytes = float(_WORKSPACE_BYTES)
        self._kernel = lru_cache(maxsize=None)(self._price)

    def why_not(self, format: str) -> str | None:
        """The reason why the device cannot multiply in this format, or None."""
        if self._peak(format) > 0:
            return None
        return f"{self.device.title} has no {format} tensor arithmetic"

    def kernel(self, work: Work) -> Cost:
        """The latency of one kernel, launch included.

        Raises:
            UsageError: the device lacks the format.
        """
        return self._kernel(work)

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
        share = {"all_reduce": 2 * (ranks - 1) / ranks, "send_recv": 1.0}.get(
            kind, (ranks - 1) / ranks
        )
        moved_us = share * size_bytes / (domain.link.bandwidth.value * _LINK) * 1e6
        return _spread(domain.link.latency.value * (1 + 0.3 * (ranks - 1)) + moved_us)

    def transfer(self, source: Place, target: Place, size_bytes: float) -> Cost:
        """The latency of one copy.

        Raises:
            UsageError: the device has no such link.
        """
        far = "host" if "host" in (source, target) else "peer"
        link = self.device.links.get(far)
        if link is None:
            raise UsageError(f"{self.device.title} has no link to a {far}", where="transfer")
        return _spread(link.latency.value + size_bytes / (link.bandwidth.value * _LINK) * 1e6)

    def _price(self, work: Work) -> Cost:
        format = "fp32" if isinstance(work, Traffic) else work.format
        reason = self.why_not(format)
        if reason is not None:
            raise UsageError(reason, where="kernel")
        rate = self._peak(format)
        moved_us = work.size_bytes / (self.device.memory_bandwidth.value * _BANDWIDTH) * 1e6
        computed_us = work.flops / (rate * _RATE) * 1e6
        steps = work.steps if isinstance(work, Recurrence) else 1
        return _spread(self.launch_us * steps + max(moved_us, computed_us))

    def _peak(self, format: str) -> float:
        """Rate of a format; weight-only formats multiply in 16 bits."""
        name = {"int8_wo": "fp16", "int4_wo": "fp16", "2:4_int8": "int8"}.get(format, format)
        found = self.device.peak.get(name)
        return found.value if found else 0.0


def _spread(latency_us: float) -> Cost:
    return Cost(latency_us / _SPREAD, latency_us, latency_us * _SPREAD, Source.MODELLED)
