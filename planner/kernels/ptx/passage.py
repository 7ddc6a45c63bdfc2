"""How long a block takes through its kernel, from the kernel's PTX: cycles of a multiprocessor.

All warps that a multiprocessor holds are taken to go side by side. An instruction starts once what
it reads is there (latencies), once the unit that it needs has done what was asked of it before
(rates, all warps counted), and not before the last barrier or wait; loads that nobody waits for
overlap. Addresses are computed, so that what a warp asks of memory is counted and not guessed.

What the assembler does is not seen, but for one habit of it that costs most: where each value's
exponential and division are guarded against overflow by predicates, it puts the values one behind
the other, and their latencies add up (105 to 125 cycles a value of a thread, measured in
epilogues with a sigmoid on an H200, 2026-11-28).
"""

from __future__ import annotations

from planner.kernels.ptx import hopper
from planner.kernels.ptx.effects import EFFECTS, other
from planner.kernels.ptx.instructions import Instruction, Kind, Routine
from planner.kernels.ptx.requested import Requested
from planner.kernels.ptx.values import Values
from planner.kernels.ptx.way import Way

_MOST_STEPS = 100_000
"""Instructions of a warp: kernels of more are not followed."""


class TooLongError(Exception):
    """More instructions than are followed."""


def passed(
    routine: Routine, followed: frozenset[str], block: int, held: int, *, is_hidden: bool
) -> Way:
    """The way of a block from the entry to the end.

    Args:
        followed: registers whose numbers are wanted (`planner.kernels.ptx.values.addressing`).
        block: its number in the grid.
        held: blocks side by side.
        is_hidden: whether what stands before the wait for the kernel in front is done by then.

    Raises:
        TooLongError: too many instructions.
    """
    values = Values(routine.threads, block)
    way = Way(routine.threads, held, is_hidden, Requested(routine.threads, values))
    position = 0
    for _ in range(_MOST_STEPS):
        if position >= len(routine.code):
            return way
        one = routine.code[position]
        if followed.intersection(one.writes):
            values.run(one)
        if one.kind is Kind.RETURN and _is_taken(one, values):
            return way
        _step(way, one, position)
        is_jump = one.kind is Kind.BRANCH and _is_taken(one, values)
        position = routine.labels[one.operands[0]] if is_jump else position + 1
    raise TooLongError


def _step(way: Way, one: Instruction, position: int) -> None:
    start = way.start_of(one)
    if one.kind is Kind.MOVE:
        way.finish(one, start)
        return
    issue = way.warps / hopper.WARPS_AT_ONCE
    if one.kind is Kind.BRANCH:
        way.clock += max(issue, hopper.BRANCH_CYCLES)
        return
    way.clock += issue
    EFFECTS.get(one.kind, other)(way, one, position, start)


def _is_taken(one: Instruction, values: Values) -> bool:
    """Whether most threads take it; without a known predicate they do not."""
    if one.guard is None:
        return True
    found = values.where(one.guard, is_negated=one.is_negated)
    return found is not None and bool(found.mean() > 0.5)
