"""Prices of kernels on this target: what was measured, in one state of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from planner.cost.state import Sharing, State, meetings, moved_us
from planner.ir.cost import Cost, Source
from planner.profiling.kernel import Kernel, measurement_key
from planner.profiling.micro import footprint_class
from planner.profiling.store import KernelTime

ALONE = 1
"""Threads of the smallest pool, in which what has one time for all pools is timed."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where kernels run: the device and the number of threads."""

    device_digest: str
    threads: int


def kernel_key(kernel: Kernel, model_read_size_bytes: int, target: Target) -> str:
    """The store's key of one kernel in a model that reads so many bytes of constants a run."""
    return measurement_key(
        kernel.signature,
        device_digest=target.device_digest,
        threads=target.threads,
        footprint=footprint_class(kernel.read_size_bytes, model_read_size_bytes),
    )


def seen_state(time: KernelTime) -> State:
    """How fast the machine was when it was measured."""
    alone_us = time.reference_us if time.threads == ALONE else time.alone_us
    return State(alone_us, time.reference_us)


class CostTable:
    """Kernel times by key, brought to one state of the machine.

    A shared machine is now faster, now slower. Each measurement carries the reference probe of its
    own moment and pool; with that of the wanted state it is brought there
    (`planner/cost/state.py`). Kernels of several pools stand in one table, for short ones are timed
    with one thread only: so the references must be of one state too, not of the state that each
    pool's process happened to see.
    """

    def __init__(
        self,
        times: Mapping[str, KernelTime],
        references: Mapping[int, State],
        *,
        sharing: Mapping[str, Sharing] = MappingProxyType({}),
        felt: float = 1.0,
        change_us: float = 0.0,
    ) -> None:
        """
        Args:
            references: threads -> the state that prices belong to, as their probes tell it.
            sharing: how threads share kernels, by key; those that are not here, one thread runs.
            felt: how what one thread does follows the probe.
            change_us: what a kernel takes longer among others than among copies of itself.
        """
        self._times = dict(times)
        self._references = dict(references)
        self._sharing = dict(sharing)
        self._felt = felt
        self._change_us = change_us

    def in_state(
        self,
        references: Mapping[int, State],
        *,
        felt: float,
        change_us: float = 0.0,
    ) -> CostTable:
        """The same measurements, priced in another state."""
        return CostTable(
            self._times, references, sharing=self._sharing, felt=felt, change_us=change_us
        )

    def extended(
        self, times: Mapping[str, KernelTime], sharing: Mapping[str, Sharing]
    ) -> CostTable:
        """The same prices and more, in the same state."""
        return CostTable(
            {**self._times, **times}, self._references,
            sharing={**self._sharing, **sharing}, felt=self._felt, change_us=self._change_us,
        )  # fmt: skip

    def __contains__(self, key: str) -> bool:
        return key in self._times

    def meetings(self, key: str) -> float:
        """How often threads meet in a kernel; 0 where one does all."""
        return meetings(self._times[key].latency_us, self._sharing.get(key, Sharing.ALONE))

    def cost(self, key: str) -> Cost:
        """The kernel's latency in that state.

        Raises:
            KeyError: it was never measured.
        """
        sharing = self._sharing.get(key, Sharing.ALONE)
        return self.brought(self._times[key], sharing) + Cost.exactly(self._change_us)

    def brought(self, time: KernelTime, sharing: Sharing = Sharing.ALONE) -> Cost:
        """A measurement's latency in that state."""
        seen = seen_state(time)
        wanted = self._references.get(time.threads, seen)

        def moved(us: float) -> float:
            return moved_us(us, sharing, seen=seen, wanted=wanted, felt=self._felt)

        return Cost(
            moved(time.low_us), moved(time.latency_us), moved(time.high_us), Source.MEASURED
        )

    def total(self, keys: Sequence[str]) -> Cost:
        """The latency of kernels run one after the other.

        Errors of different kernels are independent, so their half-widths add in quadrature; errors
        of the same kernel, run several times, are the same error.
        """
        counts: dict[str, int] = {}
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
        expected = below = above = 0.0
        for key, count in counts.items():
            cost = self.cost(key)
            expected += count * cost.expected_us
            below += (count * (cost.expected_us - cost.low_us)) ** 2
            above += (count * (cost.high_us - cost.expected_us)) ** 2
        low = max(expected - below**0.5, 0.0)
        return Cost(low, expected, expected + above**0.5, Source.MEASURED)
