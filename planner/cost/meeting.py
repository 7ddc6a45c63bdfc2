"""What is lost where the threads of a pool meet, at the end of every kernel that they share.

A kernel timed among copies of itself finds the other threads waiting; in a whole they have been
idle since the one before, or sleep. Where they spin, a kernel that is shared takes 0.5 to 5 us
longer than among its copies, 1.5 in the median; where they sleep, 5 to 50, 20 in the median, but
not much more than the calling thread takes to do the rest alone (37 models, each with one thread,
two and two that sleep, AMD EPYC, 2026-11-28).
"""

from __future__ import annotations

_SPINNING_US, _SLEEPING_US = 1.5, 20.0
_WAKING_US = 4.0
"""What it costs to wake a thread that comes too late to help."""


def met_us(alone_us: float, pool_us: float, *, is_spinning: bool) -> float:
    """What a shared kernel is expected to take longer in a whole, in microseconds.

    Args:
        alone_us: what it takes with one thread.
        pool_us: what it takes with those of the pool, among copies of itself.
    """
    usual_us = _SPINNING_US if is_spinning else _SLEEPING_US
    return min(usual_us, max(alone_us - pool_us, 0.0) + _WAKING_US)
