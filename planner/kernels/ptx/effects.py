"""What each kind of instruction does to a block's way: (way, instruction, position, start)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from planner.kernels.ptx import hopper
from planner.kernels.ptx.instructions import Instruction, Kind
from planner.kernels.ptx.way import Way

_SHAPE = re.compile(r"\.m(\d+)n(\d+)k(\d+)")
_WARPS_TOGETHER = 4
"""Of a wide product."""
_MATRICES = {".x4": 4, ".x2": 2}


def other(way: Way, one: Instruction, _: int, start: float) -> None:
    """Anything that only takes its time."""
    latency = hopper.LATENCY.get(one.kind, hopper.SHORT_CYCLES)
    way.finish(one, way.computed(one, start) + latency)


# ---------------------------------------------------------------------- values one by one
def _special(way: Way, one: Instruction, position: int, start: float) -> None:
    other(way, one, position, start)
    if one.head == "ex2":
        way.private.update(one.writes)


def _arithmetic(way: Way, one: Instruction, position: int, start: float) -> None:
    """What is made of one exponential and constants stays that value's own."""
    other(way, one, position, start)
    is_private = sum(name in way.private for name in one.reads) == 1
    (way.private.update if is_private else way.private.difference_update)(one.writes)


def _division(way: Way, one: Instruction, _: int, start: float) -> None:
    """Behind the one before it, where the divisor is made of one value's exponential."""
    begun = way.computed(one, start)
    done = begun + hopper.LATENCY[one.kind]
    if one.reads and one.reads[-1] in way.private:
        done = way.serial = max(way.serial, way.clock, begun) + hopper.SERIAL_CYCLES
    way.finish(one, done)


# ---------------------------------------------------------------------- memory
def _load(way: Way, one: Instruction, position: int, start: float) -> None:
    """Without `.cg` what another warp asked for before is in L1."""
    found = way.requested.of_memory(one, position)
    begun, taken = way.asked_of_l2(found, start)
    way.loaded += found.sectors if ".cg" in one.text else found.fresh
    way.last = max(way.last, begun)
    latency = hopper.L2_CYCLES + taken if found.sectors else hopper.SHORT_CYCLES
    way.finish(one, begun + latency)


def _copy(way: Way, one: Instruction, position: int, start: float) -> None:
    found = way.requested.of_memory(one, position)
    begun, taken = way.asked_of_l2(found, start)
    way.loaded += found.sectors
    way.copying = max(way.copying, begun + hopper.L2_CYCLES + taken)


def _store(way: Way, one: Instruction, position: int, start: float) -> None:
    found = way.requested.of_memory(one, position)
    begun, _ = way.asked_of_l2(found, start)
    way.stored += found.sectors
    way.last = max(way.last, begun)


def _shared(way: Way, one: Instruction, position: int, start: float) -> None:
    cycles = way.requested.of_shared(one, position)
    way.from_shared(one, start, cycles, hopper.SHARED_CYCLES)


def _matrix_load(way: Way, one: Instruction, _: int, start: float) -> None:
    """Four, two or one matrices of 8 x 8 a warp: 128 bytes each, a cycle."""
    count = next((many for text, many in _MATRICES.items() if text in one.text), 1)
    cycles = way.warps / way.held * count
    way.from_shared(one, start, cycles, hopper.MATRIX_LOAD_CYCLES)


# ---------------------------------------------------------------------- products
def _product(way: Way, one: Instruction, _: int, start: float) -> None:
    """Of 32 bits at half the rate."""
    slower = 1.0 if "f16" in one.text else 2.0
    cycles = _multiplied(one) * way.warps / hopper.PRODUCTS_A_CYCLE * slower
    way.finish(one, max(start, way.unit(one.kind, cycles)) + hopper.PRODUCT_CYCLES)


def _wide_product(way: Way, one: Instruction, _: int, start: float) -> None:
    """Of four warps together; nobody waits for it here."""
    cycles = _multiplied(one) * way.warps / _WARPS_TOGETHER / hopper.WIDE_PRODUCTS_A_CYCLE
    way.multiplying = max(way.multiplying, start) + cycles
    way.finish(one, way.multiplying + hopper.WIDE_PRODUCT_CYCLES)


def _multiplied(one: Instruction) -> int:
    """Multiply-adds of a matrix instruction."""
    shape = _SHAPE.search(one.text)
    return math.prod(int(extent) for extent in shape.groups()) if shape else 0


# ---------------------------------------------------------------------- waits
def _copies_commit(way: Way, _: Instruction, __: int, ___: float) -> None:
    way.copies.append(way.copying)
    way.copying = 0.0


def _wide_commit(way: Way, _: Instruction, __: int, ___: float) -> None:
    way.products.append(way.multiplying + hopper.WIDE_PRODUCT_CYCLES)


def _wait(way: Way, one: Instruction, _: int, __: float) -> None:
    """Until all groups but the last few are done; without a number, until all of it is."""
    groups = way.copies if one.kind is Kind.COPIES_WAIT else way.products
    left = re.findall(r"\d+", one.operands[-1]) if one.operands else []
    done = groups[: max(len(groups) - int(left[-1]), 0)] if left else [*groups, way.copying]
    way.clock = max([way.clock, *done])


def _barrier(way: Way, _: Instruction, __: int, ___: float) -> None:
    way.clock = max(way.clock, way.shared_at) + hopper.BARRIER_CYCLES


def _let_go(way: Way, _: Instruction, __: int, ___: float) -> None:
    way.lets_go_at = way.clock


def _wait_for_predecessor(way: Way, _: Instruction, __: int, ___: float) -> None:
    """What was asked for before is there, if it was hidden behind the kernel in front."""
    if way.is_hidden:
        way.clock = max(way.clock, way.copying, *way.copies, *way.ready.values())
    way.before_wait = way.clock


Effect = Callable[[Way, Instruction, int, float], None]
EFFECTS: Mapping[Kind, Effect] = {
    Kind.SPECIAL: _special,
    Kind.FLOAT: _arithmetic,
    Kind.DIVISION: _division,
    Kind.LOAD: _load,
    Kind.STORE: _store,
    Kind.COPY: _copy,
    Kind.SHARED_LOAD: _shared,
    Kind.SHARED_STORE: _shared,
    Kind.MATRIX_LOAD: _matrix_load,
    Kind.PRODUCT: _product,
    Kind.WIDE_PRODUCT: _wide_product,
    Kind.COPIES_COMMIT: _copies_commit,
    Kind.WIDE_COMMIT: _wide_commit,
    Kind.COPIES_WAIT: _wait,
    Kind.WIDE_WAIT: _wait,
    Kind.BARRIER: _barrier,
    Kind.PREDECESSOR_WAIT: _wait_for_predecessor,
    Kind.LET_GO: _let_go,
}
"""What is not here: `other`."""
