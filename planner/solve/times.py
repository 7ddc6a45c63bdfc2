"""Memory over time: the times that matter (C4)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable

from planner.ir.devices import Hold


def maximal_times(holds: Iterable[Hold]) -> list[int]:
    """Times whose set of live holds is maximal: a row for these covers all others.

    A start that an end follows before the next start. O(n log n).
    """
    spans = {(hold.start, hold.end) for hold in holds if hold.start < hold.end}
    starts = sorted({start for start, _ in spans})
    ends = sorted({end for _, end in spans})
    found = []
    for start, following in zip(starts, (*starts[1:], math.inf), strict=False):
        if ends[bisect_right(ends, start)] <= following:
            found.append(start)
    return found
