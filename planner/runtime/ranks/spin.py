"""Waiting for a message: a moment awake, then asleep.

Waking a process on an idle core takes some fifty microseconds on a virtual machine, as long as a
small model's whole run on a GPU. Who has just been heard is likely to be heard again at once, so a
waiter looks again and again for a moment, where there are cores for it.
"""

from __future__ import annotations

import os
import select
import time

SPIN_S = 1e-3
"""As long as some twenty wake-ups."""


def spin_s(ranks: int) -> float:
    """How long the driver and each of its ranks may look; 0 where cores are short.

    Half of the cores stay for what computes: threads of the ranks, and the caller's own.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return SPIN_S if cores >= 2 * (ranks + 1) else 0.0


def until_told(
    poll: select.poll, spin_s: float, until: float | None = None
) -> list[tuple[int, int]]:
    """What `poll` tells, at the latest `until` (of the monotonic clock): nothing then."""
    awake = time.monotonic() + spin_s
    if until is not None:
        awake = min(awake, until)
    while time.monotonic() < awake:
        heard = poll.poll(0)
        if heard:
            return heard
    left = None if until is None else max(until - time.monotonic(), 0.0) * 1e3
    return poll.poll(left)
