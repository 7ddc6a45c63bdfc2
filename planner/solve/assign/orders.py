"""Linear orders of the groups: depth first, so that few results stay open, and variations."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator

from planner.solve.assign.instance import Groups


def orders(groups: Groups, rng: random.Random) -> Iterator[list[int]]:
    """Endlessly many: the groups' own, sinks first, then depth first with random choices."""
    yield list(range(groups.count))
    depth = _depths(groups)
    yield _follow(groups, lambda group: -depth[group])
    yield _follow(groups, lambda group: depth[group])
    while True:
        luck = [rng.random() for _ in range(groups.count)]
        yield _follow(groups, lambda group, luck=luck: luck[group])  # type: ignore[misc]


def _depths(groups: Groups) -> list[int]:
    """Longest path to each group, in edges."""
    depth = [0] * groups.count
    for a, b in sorted(groups.order):
        depth[b] = max(depth[b], depth[a] + 1)
    return depth


def _follow(groups: Groups, rank: Callable[[int], float]) -> list[int]:
    """Depth first: of what just became ready the lowest rank goes on, the newest before the old."""
    waiting = [0] * groups.count
    after: list[list[int]] = [[] for _ in range(groups.count)]
    for a, b in groups.order:
        waiting[b] += 1
        after[a].append(b)
    step = 0
    heap = [(0, rank(v), v) for v in range(groups.count) if not waiting[v]]
    heapq.heapify(heap)
    done = []
    while heap:
        group = heapq.heappop(heap)[2]
        done.append(group)
        step -= 1
        for target in after[group]:
            waiting[target] -= 1
            if not waiting[target]:
                heapq.heappush(heap, (step, rank(target), target))
    return done
