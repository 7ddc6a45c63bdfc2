"""Between which stages a group can stand, if every load is to stay below a cutoff.

Let w be the time of a group at its fastest kind. A slot of kind k does at most s_k = max_v w_v/t_kv
of such work in a unit of time, so p + 1 stages do at most T times the sum of the p + 1 largest s.
What precedes a group, and the group itself, must be done by the end of its stage.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.solve.assign.instance import Edge, Groups

SLACK = 1e-9
"""Relative room for sums of floats."""


def speed(groups: Groups, kind: int) -> float:
    """s_k: work that a slot of a kind does in a unit of time, at most."""
    time = groups.time_us[kind]
    least = groups.time_us.min(axis=0)
    working = (least > 0) & np.isfinite(time)
    return float((least[working] / time[working]).max(initial=0.0))


def speeds(groups: Groups) -> list[float]:
    """s_k of every slot, largest first."""
    kinds = enumerate(groups.kinds)
    return sorted((speed(groups, k) for k, kind in kinds for _ in kind.slots), reverse=True)


def windows(groups: Groups, cutoff_us: float) -> list[tuple[int, int]]:
    """(first, last) stage of each group; first > last where no plan is below the cutoff."""
    done = cutoff_us * (1 + SLACK) * np.cumsum(speeds(groups))
    last = groups.slot_count - 1
    before = work_before(groups, groups.order)
    behind = work_before(groups, [(b, a) for a, b in groups.order])
    return [
        (int(np.searchsorted(done, early)), last - int(np.searchsorted(done, late)))
        for early, late in zip(before, behind, strict=True)
    ]


def work_before(groups: Groups, order: Sequence[Edge]) -> list[float]:
    """Fastest time of each group with all that precede it in an acyclic order."""
    least = groups.time_us.min(axis=0)
    below = np.eye(groups.count, dtype=bool)
    waiting = [0] * groups.count
    after: list[list[int]] = [[] for _ in range(groups.count)]
    for a, b in order:
        waiting[b] += 1
        after[a].append(b)
    ready = [v for v in range(groups.count) if not waiting[v]]
    while ready:
        v = ready.pop()
        for target in after[v]:
            below[target] |= below[v]
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return list((below @ least).tolist())
