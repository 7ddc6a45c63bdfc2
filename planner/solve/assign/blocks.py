"""Long linear orders in blocks: what `linear` cuts in the square of their length.

Neighbours in an order become one group, so that the order may only be cut where few results are
open: one place of each of as many equal stretches as the blocks that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from planner.solve.assign.instance import Groups, quotient
from planner.solve.assign.linear import Cut, cut
from planner.solve.data import FloatArray


def cut_in_blocks(
    groups: Groups, order: Sequence[int], most: int, cutoff_us: float, deadline: float
) -> Cut | None:
    """As `linear.cut`, between blocks where there are more than `most` groups."""
    if groups.count <= most or not np.isfinite(groups.time_us).all():
        return cut(groups, order, cutoff_us, deadline)
    of = block_of(groups, order, most)
    part = quotient(groups, of, max(of) + 1)
    found = cut(part, range(part.count), cutoff_us, deadline)
    if found is None:
        return None
    return replace(found, stage=tuple(found.stage[block] for block in of))


def block_of(groups: Groups, order: Sequence[int], most: int) -> list[int]:
    """The block of each group."""
    count, is_open = groups.count, open_after(groups, order)
    starts = np.linspace(1, count, most - 1, endpoint=False).astype(np.int64).tolist()
    ends = [
        low + int(is_open[low:high].argmin())
        for low, high in zip(starts, [*starts[1:], count], strict=True)
    ]
    place = np.empty(count, dtype=np.int64)
    place[list(order)] = np.arange(count)
    return [int(block) for block in np.searchsorted(ends, place, side="right")]


def open_after(groups: Groups, order: Sequence[int]) -> FloatArray:
    """[i] -> cost of the nets that the first i groups of an order hold some of, not all; of nets
    that reach out of the order, what they hold of it counts."""
    place = {group: index for index, group in enumerate(order)}
    change = np.zeros(len(place) + 1)
    for net in groups.nets:
        where = [place[group] for group in (net.source, *net.targets) if group in place]
        if not where:
            continue
        change[min(where) + 1] += net.cost_us
        change[max(where) + 1] -= net.cost_us
    return np.asarray(np.cumsum(change))
