"""Families of ideals where all of them are too many: chains within one are plans, not proofs.

prefixes    of linear orders: what an order's first groups are
nearby      what a few groups more or fewer make of the ideals at which a known plan changes slots
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

from planner.solve.assign.ideals import Band
from planner.solve.assign.instance import Groups, topological
from planner.solve.assign.windows import work


def prefixes(groups: Groups, order: Sequence[int], within: Sequence[Band]) -> Iterator[int]:
    """Prefixes of an order, as bit masks, whose work lies in a band."""
    each = work(groups).tolist()
    mask, done = 0, 0.0
    for group in [None, *order]:
        if group is not None:
            mask, done = mask | 1 << group, done + each[group]
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
    edges = _Edges(groups)
    found: dict[int, None] = {}
    for mask in boundaries(groups, plan):
        flips = [v for v in range(groups.count) if edges.can_flip(mask, v)]
        found.update(dict.fromkeys(_around(edges, mask, flips, each, rng)))
    return list(found)


class _Edges:
    """Who is next to whom, as bit masks and as lists."""

    def __init__(self, groups: Groups) -> None:
        self._before = [0] * groups.count
        self._behind = [0] * groups.count
        self.beside: list[list[int]] = [[] for _ in range(groups.count)]
        for a, b in groups.order:
            self._before[b] |= 1 << a
            self._behind[a] |= 1 << b
            self.beside[a].append(b)
            self.beside[b].append(a)

    def can_flip(self, ideal: int, v: int) -> bool:
        """Whether an ideal stays one with a group more, or without it."""
        return not (self._behind[v] & ideal if ideal >> v & 1 else self._before[v] & ~ideal)


def _around(
    edges: _Edges, ideal: int, flips: list[int], each: int, rng: random.Random
) -> Iterable[int]:
    """Breadth first, in random order; an ideal's flips are its parent's but beside what flipped."""
    found = {ideal: (ideal, -1)}
    flips_of: dict[int, list[int]] = {ideal: flips}
    waiting = [ideal]
    for here in waiting:
        if len(found) >= each:
            break
        parent, flipped = found[here]
        if flipped >= 0:
            near = edges.beside[flipped]
            kept = [v for v in flips_of[parent] if v not in near]
            flips_of[here] = [*kept, *(v for v in near if edges.can_flip(here, v))]
        mine = flips_of[here]
        for v in rng.sample(mine, len(mine)):
            other = here ^ 1 << v
            if other not in found:
                found[other] = here, v
                waiting.append(other)
    return found
