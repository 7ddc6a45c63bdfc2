"""What a compiled kernel is followed through for: cycles and bytes of its blocks, from its PTX."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.errors import InfoptError
from planner.kernels.compile import Compiled
from planner.kernels.occupancy import blocks_per_unit
from planner.kernels.ptx import (
    arithmetic,
    effects,
    hopper,
    instructions,
    passage,
    requested,
    requests,
    values,
    way,
)
from planner.kernels.ptx.instructions import Routine, routine_of
from planner.kernels.ptx.passage import TooLongError, passed
from planner.kernels.ptx.values import addressing
from planner.kernels.ptx.way import Way

_READ = (
    *(arithmetic, effects, hopper, instructions, passage),
    *(requested, requests, values, way),
)
FOLLOWED = hashlib.sha256(
    b"".join(Path(str(name)).read_bytes() for name in (__file__, *(one.__file__ for one in _READ)))
).hexdigest()[:8]
"""How kernels are followed: another way, other traces."""
_SHARED_BYTES = 132 * 1024
"""What an engine's kernels may hold of a multiprocessor's memory: half of it, as all of them ask
for (`planner.runtime.fused.driver`), at the next share that Hopper divides it by (CUDA C++
programming guide: 0, 8, 16, 32, 64, 100, 132, 164, 196 or 228 KiB)."""
_NOT_UNDERSTOOD = (zlib.error, InfoptError, ArithmeticError, LookupError, TypeError, ValueError)
"""What PTX of another compiler may end in: its kernels are priced by their shapes."""
_RESERVED_BYTES = 1024
"""Of that, each block's."""
_MOST_PLACES = 6
"""Parts of a launch that a block of each is followed of."""
_SECTOR_BYTES = 32


@dataclass(frozen=True, slots=True)
class Trace:
    """Of a kernel on a multiprocessor that holds so many of its blocks at once."""

    held: int
    first_cycles: float
    """Of the blocks that start first, from the wait for the kernel in front on: what they did
    before it is hidden."""
    early_cycles: float
    """What they do before that wait, beside the kernel in front: no less time passes from kernel
    to kernel. Zero where a kernel lets go of its follower before it waits itself."""
    alone_cycles: float
    """Of a block that has the multiprocessor for itself, all of it."""
    together_cycles: float
    """Of `held` blocks side by side."""
    loaded_bytes: float
    """A block's in the mean, asked of L2."""
    stored_bytes: float


def trace_of(made: Compiled, parts: Sequence[int], units: int) -> Trace | None:
    """What a compiled kernel does on a device; None where that is not known.

    Args:
        parts: blocks of each part of its launch.
        units: multiprocessors of the device.
    """
    fitting = blocks_per_unit(
        made.architecture, made.threads, made.resources.registers, made.shared_size_bytes
    )
    if made.shared_size_bytes:
        fitting = min(fitting, _SHARED_BYTES // (made.shared_size_bytes + _RESERVED_BYTES))
    held = max(min(fitting, -(-sum(parts) // units)), 1)
    try:
        return trace(zlib.decompress(made.ptx).decode(), parts, held)
    except _NOT_UNDERSTOOD:
        return None


def trace(text: str, parts: Sequence[int], held: int) -> Trace | None:
    """Follows a block of each part of a launch; None where one goes on for too long.

    Args:
        text: PTX.
        parts: blocks of each part, in order.
        held: blocks that a multiprocessor holds at once.

    Raises:
        InfoptError: this is no PTX of a kernel.
    """
    routine = routine_of(text)
    followed = addressing(routine)
    try:
        ways = [(share, *_ways(routine, followed, block, held)) for block, share in _places(parts)]
    except TooLongError:
        return None
    total = sum(share for share, *_ in ways)

    def mean(column: Iterable[float]) -> float:
        return sum(each[0] * value for each, value in zip(ways, column, strict=True)) / total

    return Trace(
        held,
        max(first.cycles - first.before_wait for _, first, _, _ in ways),
        max(0.0 if _goes_first(first) else first.before_wait for _, first, _, _ in ways),
        mean(alone.cycles for _, _, alone, _ in ways),
        mean(together.cycles for *_, together in ways),
        _SECTOR_BYTES * mean(alone.loaded for _, _, alone, _ in ways),
        _SECTOR_BYTES * mean(alone.stored for _, _, alone, _ in ways),
    )


def _goes_first(one: Way) -> bool:
    """Whether its follower may start before it has waited."""
    return one.lets_go_at is not None and one.lets_go_at < one.before_wait


def _places(parts: Sequence[int]) -> list[tuple[int, int]]:
    """A block in the middle of parts, spread over the launch, with how many it stands for."""
    starts = [sum(parts[:number]) for number in range(len(parts))]
    middles = [(start + size // 2, size) for start, size in zip(starts, parts, strict=True)]
    return middles[:: max(-(-len(middles) // _MOST_PLACES), 1)]


def _ways(
    routine: Routine, followed: frozenset[str], block: int, held: int
) -> tuple[Way, Way, Way]:
    """A block among the first, one alone, and one among `held`."""
    first = passed(routine, followed, block, held, is_hidden=True)
    alone = passed(routine, followed, block, 1, is_hidden=False)
    if held == 1:
        return first, alone, alone
    return first, alone, passed(routine, followed, block, held, is_hidden=False)
