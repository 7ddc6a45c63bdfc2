"""What the launches of a decided engine are said to take.

A launch whose kernel is compiled is priced by following it (`planner.kernels.ptx.traced`); a step
of a loop, and what is compiled for devices that this was not fitted to, by its shape
(`planner.kernels.pace`), as the solver prices all of them: thousands of candidates are not
compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.errors import EnvironmentMismatchError
from planner.fuse.build import Draft
from planner.fuse.loops import saved_us
from planner.kernels.estimate import Rates, launch_us
from planner.kernels.pack import storage_dtype
from planner.kernels.ptx.trace import Trace
from planner.kernels.ptx.traced import traced_us
from planner.spec.fusion import BucketPlan
from planner.steps.fused.compiling import Compilers
from planner.units import format_duration

_FOLLOWED_ARCHITECTURE = 90
"""Compute capability of the devices that the price of compiled kernels was fitted to."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Of the launches of drafts."""

    rates: Rates
    traces: Mapping[str, Trace]
    """Kernel -> what its blocks do, where it was followed."""

    def launch_us(self, draft: Draft, number: int) -> float:
        """One launch, or step of a loop."""
        parts, item = draft.launches[number]
        loop = loop_of(draft, number)
        trace = self.traces.get(item.name) if loop is None else None
        if trace is None:
            saved = 0.0 if loop is None else saved_us(draft, loop[0], self.rates)
            return launch_us(draft.program, parts, draft.numbers, self.rates) - saved
        named = {name for part in parts for name in (*part.stage.reads, *part.stage.makes)}
        moved_bytes = sum(size_of(draft, name) for name in named)
        blocks = [part.tiling.programs for part in parts]
        return traced_us(trace, blocks, moved_bytes, self.rates)


def prices_of(drafts: Mapping[str, Draft], compilers: Compilers | None, rates: Rates) -> Prices:
    """Follows the kernels of drafts, each once.

    Args:
        compilers: None where nothing is compiled.
    """
    if compilers is None or compilers.architecture != _FOLLOWED_ARCHITECTURE:
        return Prices(rates, {})
    launches = {item.name: (parts, item) for one in drafts.values() for parts, item in one.launches}
    try:
        made = compilers([item for _, item in launches.values()])
    except EnvironmentMismatchError:  # a price needs no compiler
        return Prices(rates, {})
    found = {
        name: compilers.cache.trace(
            made[name], [part.tiling.programs for part in parts], rates.units
        )
        for name, (parts, _) in launches.items()
        if name in made
    }
    return Prices(rates, {name: one for name, one in found.items() if one is not None})


def beyond(limit_us: float | None, buckets: Sequence[BucketPlan]) -> tuple[str, ...]:
    """What to say where kernels, chosen by their shapes, are predicted to break a promise."""
    longest_us = max(bucket.predicted_us for bucket in buckets)
    if limit_us is None or longest_us <= limit_us:
        return ()
    longest, limit = format_duration(longest_us), format_duration(limit_us)
    return (
        f"as compiled, the kernels are predicted to take {longest}, beyond the {limit} promised; "
        "by their shapes they keep it: `infopt verify` on the device says which holds",
    )


def loop_of(draft: Draft, number: int) -> tuple[int, int] | None:
    """First and last launch of the loop that a launch is a step of."""
    return next((one for one in draft.loops if one[0] <= number <= one[1]), None)


def size_of(draft: Draft, name: str) -> int:
    """Bytes of a tensor as it is stored."""
    item = storage_dtype(draft.numbers.storage[name])
    return draft.program.types[name].size * item.itemsize
