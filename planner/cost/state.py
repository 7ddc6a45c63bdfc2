"""How fast a machine is, as its reference probe tells, and what a kernel takes in another state.

A shared machine is slow in two ways. Neighbours on the same core make what one thread does take
longer, by a factor. And for spells of 20 to 60 s threads hear of each other late (as if their cores
had been put far apart). Then what one thread runs takes as long as ever; a kernel that several
share in one parallel region takes 2.3 us longer, whether it takes 3 us or 200 otherwise; those that
hand out their work in many small tasks, as integer products do, 16 us longer where they take 12,
115 where they take 600 (768 pairs of timings of one kernel in both states, AMD EPYC, 2026-11-28).
A probe that one thread runs shows slowness of the first kind alone, beside it the one that all
threads of a pool share shows the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

PROBE_REGIONS = 16
"""Of how many kernels that threads share once the reference probe is as slow where they meet late:
those became slower by a sixteenth of what it did. (It has eight parallel regions.)"""
_TASKS, _TASKS_GROWTH, _TASKS_US = 4.0, 0.6, 10.0
"""How often threads meet in a kernel of many tasks: so many times where it takes 10 us; its tasks
grow with it, so their number less. Seen as the median of 318 pairs: 2 to 7 times where kernels take
9 to 16 us, 10 at 50 us, 50 at 600, 90 at 1,400."""


class Sharing(Enum):
    """How threads work on a kernel."""

    ALONE = "alone"
    """One does all."""
    ONCE = "once"
    """Each takes its part, and they meet at the end."""
    TASKS = "tasks"
    """They take small tasks off one counter."""


_IN_TASKS = frozenset(
    {"QLinearConv", "QLinearMatMul", "MatMulNBits", "DynamicQuantizeMatMul", "FusedConv"}
)


def sharing_of(op_type: str, *, is_alike: bool) -> Sharing:
    """How the threads of a pool share a kernel that is not too short to be shared.

    Args:
        is_alike: whether it takes with one thread what it takes with all of them.
    """
    if op_type in _IN_TASKS:
        return Sharing.TASKS
    return Sharing.ALONE if is_alike else Sharing.ONCE


@dataclass(frozen=True, slots=True)
class State:
    """What the reference probes take, microseconds; 0 where that is not known."""

    alone_us: float
    """The one that one thread runs: the serial one, or in a pool of one thread the same."""
    pool_us: float
    """The one that the threads of a pool share."""


def moved_us(us: float, sharing: Sharing, *, seen: State, wanted: State, felt: float) -> float:
    """What a kernel takes in another state of the machine.

    No kernel gains or loses a larger share than the probe, whose regions are as short as any.

    Args:
        us: what it took in the state `seen`.
        felt: how it follows the probe with one thread (`planner/cost/tempo.py`).
    """
    known = seen.alone_us > 0 and wanted.alone_us > 0
    pace = math.pow(wanted.alone_us / seen.alone_us, felt) if known else 1.0
    if sharing == Sharing.ALONE or seen.pool_us <= 0 or wanted.pool_us <= 0:
        return us * pace
    share = wanted.pool_us / seen.pool_us
    late_us = (wanted.pool_us - pace * seen.pool_us) / PROBE_REGIONS
    ends = sorted((us * pace, us * share))
    return min(max(us * pace + meetings(us, sharing) * late_us, ends[0]), ends[1])


def meetings(us: float, sharing: Sharing) -> float:
    """How often threads meet in a kernel that takes so long."""
    if sharing == Sharing.ALONE:
        return 0.0
    if sharing == Sharing.ONCE:
        return 1.0
    return max(_TASKS * math.pow(us / _TASKS_US, _TASKS_GROWTH), 1.0)
