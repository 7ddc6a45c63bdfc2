"""Groups that no better plan can tear apart, given a cutoff T on the largest load.

Let a net (u, D, c) be cut between the groups a and b: their slots differ, and each slot that pays
carries c besides its own group. If for every pair of kinds one of the two slots then costs T or
more, a and b share a slot in every plan below T, and merging them loses none. Merged groups are
heavier, so it is done again until nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from planner.solve.assign.instance import Edge, Groups, merge


def glue(groups: Groups, cutoff_us: float, *, is_acyclic: bool) -> Groups:
    """Groups merged as far as the cutoff proves; the same groups where it proves nothing."""
    while True:
        merged = merge(groups, _inseparable(groups, cutoff_us), is_acyclic=is_acyclic)
        if merged.count == groups.count:
            return merged
        groups = merged


def _inseparable(groups: Groups, cutoff_us: float) -> Iterator[Edge]:
    for net in groups.nets:
        for target in net.targets:
            if not _can_part(groups, net.source, target, net.cost_us, cutoff_us):
                yield net.source, target


def _can_part(groups: Groups, a: int, b: int, cost_us: float, cutoff_us: float) -> bool:
    """Whether a and b fit on two slots with a net of this cost cut between them."""
    for k, first in enumerate(groups.kinds):
        for other, second in enumerate(groups.kinds):
            if k == other and len(first.slots) < 2:
                continue
            loads = (
                groups.time_us[k, a] + cost_us * first.pays,
                groups.time_us[other, b] + cost_us * second.pays,
            )
            if max(loads) < cutoff_us:
                return True
    return False


def least_load_us(groups: Groups) -> float:
    """A lower bound: the heaviest group, and all time spread over all slots without crossings.

    Σ_v t_v(slot of v) <= slots · T, where t_v(k) is divided by nothing but minimised over kinds.
    """
    if not groups.count:
        return 0.0
    heaviest = float(groups.time_us.min(axis=0).max())
    return max(heaviest, float(groups.time_us.min(axis=0).sum()) / groups.slot_count)


def is_memory_slack(groups: Groups, kind: int) -> bool:
    """Whether everything fits on one slot of a kind, so that memory cannot matter there."""
    return bool(np.sum(groups.size_bytes[kind]) <= groups.kinds[kind].capacity_bytes)
