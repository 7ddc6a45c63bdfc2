"""Between which stages a group can stand, if every load is to stay below a cutoff.

Let w be the work of a group: its time at its fastest kind, of which a slot of kind k does at most
s_k = max_v w_v/t_kv in a unit of time; or what `rates` make of it. So p + 1 stages do at most the
sum of the p + 1 largest amounts that slots offer below T. What precedes a group, and the group
itself, must be done by the end of its stage.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.solve.assign.instance import Edge, Groups
from planner.solve.data import FloatArray

SLACK = 1e-9
"""Relative room for sums of floats."""


def work(groups: Groups) -> FloatArray:
    """Of each group, wherever it runs; infinite where it runs nowhere."""
    if groups.rates is None:
        return np.asarray(groups.time_us.min(axis=0))
    return np.asarray(worth(groups).min(axis=0))


def worth(groups: Groups) -> FloatArray:
    """[kind, group]: what a group takes of a slot of each kind, in units of work; infinite where it
    cannot run. Where it is least, the group suits best."""
    is_able = np.isfinite(groups.time_us)
    time = np.array([speed(groups, k) for k in range(len(groups.kinds))])
    found = time[:, None] * np.where(is_able, groups.time_us, 0.0)
    if groups.rates is not None:
        found += np.array(groups.rates.size_us_per_byte)[:, None] * groups.size_bytes
    return np.asarray(np.where(is_able, found, np.inf))


def offered(groups: Groups, kind: int, cutoff_us: float) -> float:
    """Work that a slot of a kind holds at most if its load is below the cutoff."""
    done = speed(groups, kind) * cutoff_us
    if groups.rates is None or not groups.rates.size_us_per_byte[kind]:
        return done
    return done + groups.rates.size_us_per_byte[kind] * groups.kinds[kind].capacity_bytes


def speed(groups: Groups, kind: int) -> float:
    """s_k: work that a unit of time at a slot of a kind is worth."""
    if groups.rates is not None:
        return groups.rates.time[kind]
    time = groups.time_us[kind]
    least = work(groups)
    working = (least > 0) & np.isfinite(time)
    return float((least[working] / time[working]).max(initial=0.0))


def all_offered(groups: Groups, cutoff_us: float) -> list[float]:
    """What every slot offers, most first."""
    kinds = enumerate(groups.kinds)
    found = (offered(groups, k, cutoff_us) for k, kind in kinds for _ in kind.slots)
    return sorted(found, reverse=True)


def windows(groups: Groups, cutoff_us: float) -> list[tuple[int, int]]:
    """(first, last) stage of each group; first > last where no plan is below the cutoff."""
    done = (1 + SLACK) * np.cumsum(all_offered(groups, cutoff_us))
    last = groups.slot_count - 1
    before = work_before(groups, groups.order)
    behind = work_before(groups, [(b, a) for a, b in groups.order])
    return [
        (int(np.searchsorted(done, early)), last - int(np.searchsorted(done, late)))
        for early, late in zip(before, behind, strict=True)
    ]


def work_before(groups: Groups, order: Sequence[Edge]) -> list[float]:
    """Work of each group with all that precede it in an acyclic order."""
    least = work(groups)
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
