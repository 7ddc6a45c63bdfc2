"""Which runs of equal launches are better off as loops: by price, and what a device may hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from planner.fuse.drafts import Draft
from planner.fuse.roll import Run, rolled_up, runs, steps_of
from planner.kernels.compile import Compile, Compiled
from planner.kernels.estimate import H200, Rates, launch_us
from planner.kernels.occupancy import blocks_per_unit, most_blocks
from planner.kernels.source import Kernel, Part
from planner.kernels.stage import Kind
from planner.kernels.text import ITEM_SIZE_BYTES

MAX_SPILLED_BYTES = 32
"""Of a thread. A loop that spills a little may still be faster (CRNN of 16 sequences, 16 bytes:
692 us against 866 as launches, H200, 2026-11-27); where it runs, `verify` times both."""
_WARP = 32
_REGISTERS_A_UNIT = 65_536
_REGISTERS_A_THREAD = 168
"""Of cells whose weights stay in registers, as compiled for sm_90: 143 to 160."""


def with_loops(plan: Draft, rates: Rates = H200) -> Draft:
    """The draft with those runs as loops that are cheaper so by their price."""

    def dearer(run: Run) -> str:
        saved = saved_us(plan, run.first, rates)
        return "" if saved > 0 else f"as a loop a step would take {-saved:.2f} us more (modelled)"

    return _chosen(plan, lambda run: _too_large(plan, run, rates) or dearer(run))


def with_all_loops(plan: Draft, rates: Rates = H200) -> Draft:
    """The draft with every run as a loop that a device may hold: to be measured."""
    return _chosen(plan, lambda run: _too_large(plan, run, rates))


def without_loops(plan: Draft, reason: str) -> Draft:
    """The draft with its loops as launches, for a reason."""
    return _without(plan, dict.fromkeys(plan.loops, reason))


def with_sound_loops(plan: Draft, compile_each: Compile, units: int) -> Draft:
    """The draft with those of its loops that compile, and whose blocks a device holds at once.

    What is refused is launches again and the rest is rolled anew, for fewer loops are other
    kernels: the first launch zeroes what they count in. At most a round for each loop.

    Args:
        units: multiprocessors of the device.
    """
    while refused := _refused(plan, compile_each, units):
        plan = _without(plan, refused)
    return plan


def _refused(plan: Draft, compile_each: Compile, units: int) -> dict[tuple[int, int], str]:
    """Loops of a draft that stay launches, and why."""
    if not plan.loops:
        return {}
    items = rolled_up(plan).kernels
    made = compile_each(items)
    known = {item.name for item in plan.kernels}
    beside = {item.name for item in items if item.steps == 1} - known - made.keys()
    if beside:
        return dict.fromkeys(plan.loops, "a kernel beside their loop does not compile")
    where = zip(plan.loops, steps_of(plan), strict=True)
    told = {loop: refusal(items[at], made.get(items[at].name), units) for loop, at in where}
    return {loop: reason for loop, reason in told.items() if reason}


def _without(plan: Draft, refused: Mapping[tuple[int, int], str]) -> Draft:
    """The draft with some of its loops as launches, and why."""
    kept = tuple(loop for loop in plan.loops if loop not in refused)
    told = tuple(told_of(first, last, reason) for (first, last), reason in refused.items())
    return replace(plan, loops=kept, remarks=(*plan.remarks, *told))


def told_of(first: int, last: int, reason: str) -> str:
    """`004 to 103 are launches: as a loop they spill 16 bytes a thread`."""
    return f"{first:03d} to {last:03d} are launches: {reason}"


def _chosen(plan: Draft, refused: Callable[[Run], str]) -> Draft:
    loops, told = [], []
    for run in runs(plan):
        reason = refused(run)
        if reason:
            told.append(told_of(run.first, run.last, reason))
        else:
            loops.append((run.first, run.last))
    return replace(plan, loops=tuple(loops), remarks=tuple(told))


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


def _too_large(plan: Draft, run: Run, rates: Rates) -> str:
    """Why the blocks of a step cannot all be on the device at once; what is compiled decides."""
    parts, item = plan.launches[run.first]
    if any(part.tiling.kind is Kind.PRODUCT for part in parts):
        may_fit = item.programs <= rates.units
    else:
        threads = item.programs * item.warps * _WARP
        may_fit = threads * _REGISTERS_A_THREAD <= rates.units * _REGISTERS_A_UNIT
    return "" if may_fit else f"{item.programs} blocks are not on the device at once"


def refusal(item: Kernel, made: Compiled | None, units: int | None = None) -> str:
    """Why the steps of a loop stay launches; empty where they need not.

    Args:
        made: the loop compiled; None where the compiler refuses it.
        units: multiprocessors of the device; else the most that its architecture has.
    """
    if made is None:
        return "as a loop they do not compile"
    if made.resources.stack_size_bytes > MAX_SPILLED_BYTES:
        return f"as a loop they spill {made.resources.stack_size_bytes} bytes a thread"
    asked = made.architecture, made.threads, made.resources.registers, made.shared_size_bytes
    held = most_blocks(*asked) if units is None else blocks_per_unit(*asked) * units
    if held is not None and held < item.programs:
        return f"{item.programs} blocks wait for each other, no more than {held} fit at once"
    return ""


def refusals(
    loops: Iterable[Kernel],
    made: Mapping[tuple[str, int], Compiled],
    architectures: Sequence[int],
) -> dict[str, dict[int, str]]:
    """Loop -> architectures on which its steps stay launches, and why."""
    found: dict[str, dict[int, str]] = {}
    for item in loops:
        told = {a: refusal(item, made.get((item.name, a))) for a in architectures}
        found[item.name] = {a: reason for a, reason in told.items() if reason}
    return found
