"""Which runs of equal launches are better off as loops: by price, and what a device may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from planner.fuse.drafts import Draft
from planner.fuse.roll import Run, runs
from planner.kernels.compile import Compiled
from planner.kernels.estimate import H200, Rates, launch_us
from planner.kernels.occupancy import blocks_per_unit
from planner.kernels.source import Kernel, Part
from planner.kernels.stage import Kind
from planner.kernels.text import ITEM_SIZE_BYTES

_WARP = 32
_REGISTERS_A_UNIT = 65_536
_REGISTERS_A_THREAD = 168
"""Of cells whose weights stay in registers, as compiled for sm_90: 143 to 160."""


def with_loops(plan: Draft, rates: Rates = H200) -> Draft:
    """The draft with those runs as loops that are cheaper so by their price."""
    found = [
        (run.first, run.last)
        for run in runs(plan)
        if _may_fit(plan, run, rates) and saved_us(plan, run.first, rates) > 0
    ]
    return replace(plan, loops=tuple(found))


def with_all_loops(plan: Draft, rates: Rates = H200) -> Draft:
    """The draft with every run as a loop that a device may hold: to be measured."""
    found = [(run.first, run.last) for run in runs(plan) if _may_fit(plan, run, rates)]
    return replace(plan, loops=tuple(found))


def saved_us(plan: Draft, first: int, rates: Rates = H200) -> float:
    """What a step takes less inside a loop: the launch, the way of its weights from L2 and, of
    products, the start of their tiles; more by what its blocks wait for each other."""
    parts = plan.launches[first][0]
    apart_us = launch_us(plan.program, parts, plan.numbers, rates)
    is_product = any(part.tiling.kind is Kind.PRODUCT for part in parts)
    link_us = rates.link_us + rates.pace.ramp_us if is_product else rates.hard_link_us
    weights_us = _weights_bytes(plan, parts) / rates.l2_bytes_per_us
    inside_us = rates.handed_over_us + max(apart_us - link_us - weights_us, 0.0)
    return apart_us - inside_us


def _weights_bytes(plan: Draft, parts: Sequence[Part]) -> int:
    types, storage = plan.program.types, plan.numbers.storage
    names = {name for part in parts for name in part.stage.reads if name in plan.program.constants}
    return sum(types[name].size * ITEM_SIZE_BYTES[storage[name]] for name in names)


def _may_fit(plan: Draft, run: Run, rates: Rates) -> bool:
    """Whether all blocks of a step may be on the device at once; what is compiled decides."""
    parts, item = plan.launches[run.first]
    if any(part.tiling.kind is Kind.PRODUCT for part in parts):
        return item.programs <= rates.units
    threads = item.programs * item.warps * _WARP
    return threads * _REGISTERS_A_THREAD <= rates.units * _REGISTERS_A_UNIT


def is_sound(item: Kernel, made: Compiled, units: int) -> bool:
    """Whether a loop spills nothing and its blocks are all on a device of so many multiprocessors
    at once."""
    if made.resources.stack_size_bytes:
        return False
    each = blocks_per_unit(
        made.architecture, made.threads, made.resources.registers, made.shared_size_bytes
    )
    return item.programs <= each * units
