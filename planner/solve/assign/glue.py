"""Groups that no better plan can tear apart, given a cutoff T on the largest load.

Let a net (u, D, c) be cut between the groups a and b: their slots differ, and each slot that pays
carries c besides its own group. If for every pair of kinds one of the two slots then costs T or
more, a and b share a slot in every plan below T, and merging them loses none. Merged groups are
heavier, so it is done again until nothing changes.

All slots together leave little room for crossings. With w_v the work of a group and s_k what a unit
of time at a slot of kind k is worth (`windows`; and a byte μ_k, `rates`), loads below T mean

    Σ_v w_v + Σ s_k·(crossings paid at slots of kind k) < Σ_slots (s_k·T + μ_k·C_k)

and a net whose cut would cost more than this leaves cannot be cut between such kinds either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from planner.solve.assign.instance import Edge, Groups, merge
from planner.solve.assign.windows import SLACK, all_offered, speed, work

FAR = 2.0**10
"""Times a cutoff: sums of thousands of such times still hold a cutoff's tenth digit."""


def glue(groups: Groups, cutoff_us: float, *, is_acyclic: bool) -> Groups:
    """Groups merged as far as the cutoff proves; the same groups where it proves nothing."""
    groups = within(groups, cutoff_us)
    while True:
        merged = merge(groups, _inseparable(groups, cutoff_us), is_acyclic=is_acyclic)
        if merged.count == groups.count:
            return merged
        groups = merged


def within(groups: Groups, cutoff_us: float) -> Groups:
    """The same, but for what no plan below a cutoff or near it does: a group does not run where it
    takes far more than the cutoff, or more than the memory, and no crossing costs far more.

    Times that stand for "never" would drown all others where loads are differences of sums. What
    would run nowhere, so that there is no plan, stays as it is.
    """
    if not math.isfinite(cutoff_us):
        return groups
    most = FAR * cutoff_us
    capacity = np.array([kind.capacity_bytes for kind in groups.kinds])
    is_able = (groups.time_us <= most) & (groups.size_bytes <= capacity[:, None])
    is_able |= ~is_able.any(axis=0)
    time = np.where(is_able, groups.time_us, np.inf)
    nets = tuple(replace(net, cost_us=min(net.cost_us, most)) for net in groups.nets)
    return replace(groups, time_us=time, nets=nets)


@dataclass(frozen=True, slots=True)
class Room:
    """What plans below a cutoff leave for crossings."""

    cutoff_us: float
    speed: tuple[float, ...]
    """s_k of each kind."""
    crossing_us: float
    """In units of work: at most this much, speed by speed, over all slots."""


def room(groups: Groups, cutoff_us: float) -> Room:
    """The room for crossings that loads below a cutoff leave; negative where no plan is."""
    found = tuple(speed(groups, kind) for kind in range(len(groups.kinds)))
    most = sum(all_offered(groups, cutoff_us))
    return Room(cutoff_us, found, most - float(work(groups).sum()) * (1 - SLACK))


def _inseparable(groups: Groups, cutoff_us: float) -> Iterator[Edge]:
    """Pairs of groups that no two slots take with the net between them cut."""
    ends = [(net.source, target) for net in groups.nets for target in net.targets]
    if not ends:
        return
    cost = np.repeat([n.cost_us for n in groups.nets], [len(n.targets) for n in groups.nets])
    source, target = np.array(ends).T
    can_part, left = np.zeros(len(ends), dtype=np.bool_), room(groups, cutoff_us)
    for k, first in enumerate(groups.kinds):
        for other, second in enumerate(groups.kinds):
            if k == other and len(first.slots) < 2:
                continue
            load = np.maximum(
                groups.time_us[k, source] + cost * first.pays,
                groups.time_us[other, target] + cost * second.pays,
            )
            crossing = left.speed[k] * first.pays + left.speed[other] * second.pays
            can_part |= (load < left.cutoff_us) & (crossing * cost <= left.crossing_us)
    for pair in np.flatnonzero(~can_part).tolist():
        yield ends[pair]


def least_load_us(groups: Groups) -> float:
    """A lower bound: the heaviest group, and all work spread over all slots without crossings."""
    if not groups.count:
        return 0.0
    heaviest = float(groups.time_us.min(axis=0).max())
    held = sum(all_offered(groups, 0.0))
    per_us = sum(speed(groups, k) * len(kind.slots) for k, kind in enumerate(groups.kinds))
    total = float(work(groups).sum())
    even = (total * (1 - SLACK) - held * (1 + SLACK)) / per_us if per_us else 0.0
    return max(heaviest * (1 - SLACK), even)


def is_memory_slack(groups: Groups, kind: int) -> bool:
    """Whether everything fits on one slot of a kind, so that memory cannot matter there."""
    return bool(np.sum(groups.size_bytes[kind]) <= groups.kinds[kind].capacity_bytes)


def most_us(groups: Groups) -> float:
    """No load is above: everything on one slot of the slowest kind, every net paid."""
    slowest = np.where(np.isfinite(groups.time_us), groups.time_us, 0.0).max(axis=0).sum()
    return float(slowest + sum(net.cost_us for net in groups.nets)) * (1 + 2**-20) + 1e-9
