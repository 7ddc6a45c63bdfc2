"""Linear orders of the groups: depth first, so that few results stay open, and variations; and in
turns of what the same kinds of slots can run, so that segments are long where a kind cannot run
all."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator

import numpy as np

from planner.solve.assign.instance import Groups


def orders(groups: Groups, rng: random.Random) -> Iterator[list[int]]:
    """Endlessly many: the groups' own, in turns where kinds differ in what they can run, sinks
    first, then depth first with random choices."""
    yield list(range(groups.count))
    if not np.isfinite(groups.time_us).all():
        yield in_turns(groups)
    depth = _depths(groups)
    yield _follow(groups, lambda group: -depth[group])
    yield _follow(groups, lambda group: depth[group])
    while True:
        luck = [rng.random() for _ in range(groups.count)]
        yield _follow(groups, lambda group, luck=luck: luck[group])  # type: ignore[misc]


def in_turns(groups: Groups) -> list[int]:
    """What the same kinds can run as long as some of it is ready, newest first; then what the
    kinds can run of which most is ready."""
    able = [tuple(column) for column in np.isfinite(groups.time_us).T.tolist()]
    after, waiting = _edges(groups)
    ready: dict[tuple[bool, ...], list[int]] = {kinds: [] for kinds in able}
    for v in reversed(range(groups.count)):
        if not waiting[v]:
            ready[able[v]].append(v)
    done: list[int] = []
    while len(done) < groups.count:
        turn = max(ready.values(), key=len)
        while turn:
            group = turn.pop()
            done.append(group)
            for target in after[group]:
                waiting[target] -= 1
                if not waiting[target]:
                    ready[able[target]].append(target)
    return done


def _edges(groups: Groups) -> tuple[list[list[int]], list[int]]:
    """What follows each group, and how many it waits for."""
    waiting = [0] * groups.count
    after: list[list[int]] = [[] for _ in range(groups.count)]
    for a, b in groups.order:
        waiting[b] += 1
        after[a].append(b)
    return after, waiting


def _depths(groups: Groups) -> list[int]:
    """Longest path to each group, in edges."""
    depth = [0] * groups.count
    for a, b in sorted(groups.order):
        depth[b] = max(depth[b], depth[a] + 1)
    return depth


def _follow(groups: Groups, rank: Callable[[int], float]) -> list[int]:
    """Depth first: of what just became ready the lowest rank goes on, the newest before the old."""
    after, waiting = _edges(groups)
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
