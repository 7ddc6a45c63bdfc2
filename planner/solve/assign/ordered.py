"""The best chain of one order of kinds, exactly: all ideals that its boundaries may be.

Boundaries are narrowed first (`narrowed`) and their ideals listed (`listing`), those with few free
groups before the others, which lie within what the listed ones leave (`family`). A dynamic program
over the boundaries then finds the best chain, with the loads as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from planner.solve.assign.family import Family, beside, consistent, family_of
from planner.solve.assign.glue import is_memory_slack
from planner.solve.assign.ideals import TooManyError
from planner.solve.assign.linear import Cut
from planner.solve.assign.listing import limits, list_ideals
from planner.solve.assign.narrowed import Narrowed
from planner.solve.data import BoolArray, FloatArray, IntArray

MOST_PAIRS = 60_000_000
"""Pairs of ideals of neighbouring boundaries, all boundaries together: some seconds."""
CHUNK = 4_000_000
"""Pairs that are looked at together."""


def best_ordered(narrowed: Narrowed, is_over: Callable[[], bool]) -> Cut | None:
    """The best chain below the cutoff of `narrowed`; None: there is none.

    Raises:
        TooManyError: more ideals or pairs than are looked at, or no time left.
    """
    count = narrowed.known.groups.count
    ends = np.zeros((1, count), dtype=np.bool_), np.ones((1, count), dtype=np.bool_)
    last = len(narrowed.kinds)
    families = {0: family_of(narrowed, ends[0]), last: family_of(narrowed, ends[1])}
    tried: set[tuple[int, bool, bool]] = set()
    while len(families) <= last:
        if not _list_next(narrowed, families, tried, is_over):
            raise TooManyError
        if any(not len(family.member) for family in families.values()):
            return None
    return _best_chain(narrowed, [families[p] for p in range(last + 1)], is_over)


def _list_next(
    narrowed: Narrowed,
    families: dict[int, Family],
    tried: set[tuple[int, bool, bool]],
    is_over: Callable[[], bool],
) -> bool:
    """Lists the ideals of one more boundary, the one with the fewest free groups that is not too
    much, within what its neighbours leave: whether there was one."""
    bounds = zip(narrowed.slots.inside, narrowed.slots.outside, strict=True)
    free = [int((~(a | b)).sum()) for a, b in bounds]
    waiting = sorted((free[p - 1], p) for p in range(1, len(narrowed.kinds)) if p not in families)
    for _, p in waiting:
        attempt = p, p - 1 in families, p + 1 in families
        if attempt in tried:
            continue
        tried.add(attempt)
        try:
            most = [*limits(narrowed, p - 1), *beside(narrowed, families, p)]
            member = list_ideals(narrowed, p - 1, most, is_over)
        except TooManyError:
            continue
        families[p] = family_of(narrowed, member)
        _spread(narrowed, families, p)
        return True
    return False


def _spread(narrowed: Narrowed, families: dict[int, Family], p: int) -> None:
    """What a new family says about its neighbours, and they about theirs."""
    for slot in [*reversed(range(p)), *range(p), *range(p, len(narrowed.kinds))]:
        if slot in families and slot + 1 in families:
            pair = consistent(narrowed, slot, families[slot], families[slot + 1])
            families[slot], families[slot + 1] = pair


def _best_chain(
    narrowed: Narrowed, families: list[Family], is_over: Callable[[], bool]
) -> Cut | None:
    for slot in [*reversed(range(len(narrowed.kinds))), *range(len(narrowed.kinds))]:
        families[slot : slot + 2] = consistent(narrowed, slot, *families[slot : slot + 2])
        if not len(families[slot].member) or not len(families[slot + 1].member):
            return None
    pairs = [len(a.member) * len(b.member) for a, b in pairwise(families)]
    if sum(pairs) > MOST_PAIRS:
        raise TooManyError
    best, came = [np.zeros(1)], [np.zeros(1, dtype=np.int64)]
    for slot, kind in enumerate(narrowed.kinds):
        able = np.flatnonzero(best[-1] < narrowed.cutoff_us)
        if not len(able):
            return None
        before, after = families[slot].taken(able), families[slot + 1]
        value = np.full(len(after.member), np.inf)
        source = np.zeros(len(after.member), dtype=np.int64)
        step = max(1, CHUNK // len(able))
        for start in range(0, len(value), step):
            if is_over():
                raise TooManyError
            chunk = np.arange(start, min(start + step, len(value)))
            load = _loads(narrowed, kind, before, after.taken(chunk))
            load = np.maximum(load, best[-1][able][:, None])
            row = load.argmin(axis=0)
            value[chunk], source[chunk] = load[row, np.arange(len(chunk))], able[row]
        best.append(value)
        came.append(source)
    if best[-1][0] >= narrowed.cutoff_us:
        return None
    return _trace(narrowed, [family.member for family in families], came, float(best[-1][0]))


def _loads(narrowed: Narrowed, kind: int, before: Family, after: Family) -> FloatArray:
    """[before, after]: of a slot between two ideals; infinite where there is none."""
    groups = narrowed.known.groups
    load = after.time_us[None, :, kind] - before.time_us[:, None, kind]
    if not is_memory_slack(groups, kind):
        size = after.size_bytes[None, :, kind] - before.size_bytes[:, None, kind]
        load[size > groups.kinds[kind].capacity_bytes] = np.inf
    torn = np.flatnonzero(before.member.any(axis=0) & ~after.member.all(axis=0))
    lost = before.member[:, torn].astype(np.float32) @ (~after.member[:, torn]).T.astype(np.float32)
    load[lost > 0] = np.inf
    if not groups.kinds[kind].pays:
        return load
    cost = narrowed.known.nets.cost_us
    load += before.cut_us(cost)[:, None] + after.cut_us(cost)[None]
    both, first, then = np.intersect1d(before.nets, after.nets, return_indices=True)
    for net, a, b in zip(both.tolist(), first.tolist(), then.tolist(), strict=True):
        # cut on both sides, a net is paid once, and not at all where the slot holds none of it
        twice = before.is_cut[:, None, a] & after.is_cut[None, :, b]
        if twice.any():
            none = before.count[:, None, a] == after.count[None, :, b]
            load -= cost[net] * (twice * (1 + none))
    return load


def _trace(
    narrowed: Narrowed, members: Sequence[BoolArray], came: Sequence[IntArray], value: float
) -> Cut:
    stage = np.zeros(narrowed.known.groups.count, dtype=np.int64)
    row = 0
    for slot in reversed(range(len(narrowed.kinds))):
        here, row = members[slot + 1][row], int(came[slot + 1][row])
        stage[here & ~members[slot][row]] = slot
    return Cut(value, tuple(stage.tolist()), tuple(narrowed.kinds))
