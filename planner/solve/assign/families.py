"""Families of ideals where all of them are too many: chains within one are plans, not proofs.

prefixes    of linear orders: what an order's first groups are
nearby      what a few groups more or fewer make of the ideals at which a known plan changes slots
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from planner.solve.assign.ideals import Band
from planner.solve.assign.instance import Groups, topological


def prefixes(groups: Groups, order: Sequence[int], within: Sequence[Band]) -> Iterator[int]:
    """Prefixes of an order, as bit masks, whose work lies in a band."""
    work = groups.time_us.min(axis=0).tolist()
    mask, done = 0, 0.0
    for group in [None, *order]:
        if group is not None:
            mask, done = mask | 1 << group, done + work[group]
        if any(low <= done <= high for low, high in within):
            yield mask


def boundaries(groups: Groups, plan: Sequence[int]) -> list[int]:
    """The ideals between the slots of a chain, as bit masks; plan holds the slot of each group."""
    edges = {(plan[a], plan[b]) for a, b in groups.order if plan[a] != plan[b]}
    masks = [0]
    for slot in topological(sorted(set(plan)), edges):
        masks.append(masks[-1] | sum(1 << v for v, other in enumerate(plan) if other == slot))
    return masks


def nearby(groups: Groups, plan: Sequence[int], each: int, rng: random.Random) -> list[int]:
    """Up to a number of ideals around each boundary of a plan, closest first."""
    before = [0] * groups.count
    behind = [0] * groups.count
    for a, b in groups.order:
        before[b] |= 1 << a
        behind[a] |= 1 << b
    found: dict[int, None] = {}
    for mask in boundaries(groups, plan):
        near = {mask: None}
        for ideal in near_first(near):
            if len(near) >= each:
                break
            for v in rng.sample(range(groups.count), groups.count):
                is_free = not behind[v] & ideal if ideal >> v & 1 else not before[v] & ~ideal
                if is_free:
                    near.setdefault(ideal ^ 1 << v)
        found.update(near)
    return list(found)


def near_first(grown: dict[int, None]) -> Iterator[int]:
    """Goes through a family that grows meanwhile, in the order in which it grew."""
    done = 0
    while done < len(grown):
        waiting = list(grown)[done:]
        yield from waiting
        done += len(waiting)
