"""Ideals of an order: what may be done before a slot begins, and after it ends.

An ideal holds the predecessors of its members; a chain of ideals 0 = I_0 ⊆ I_1 ⊆ ... cuts the
groups into slots S_p = I_p \\ I_{p-1} (Tarnawski et al., NeurIPS 2020, section 5.1.1).

A net p costs a paying slot I \\ J once if it is cut by it, so with W(I) the cost of all nets that I
cuts, F(J) the nets that J cuts and n_p(I) = |p ∩ I|,

    crossing(I \\ J) = W(I) + Σ_{p in F(J)} c_p · ([n_p(I) > n_p(J)] - [I cuts p])

which touches few nets for each J.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from planner.solve.assign.closure import members_of
from planner.solve.assign.instance import Groups
from planner.solve.assign.linear import states
from planner.solve.assign.windows import SLACK, offered, work, work_before
from planner.solve.data import BoolArray, FloatArray, IntArray

CHECKED = 1024
"""Ideals between two looks at the clock."""


class TooManyError(Exception):
    """More ideals than were asked for, or no time left to go through them."""


@dataclass(frozen=True, slots=True)
class Ideals:
    """All ideals of the order, supersets later."""

    member: BoolArray
    """[ideal, group]"""
    words: NDArray[np.uint64]
    """[ideal, word]: members as bits."""
    least_us: FloatArray
    """Work of the members; ascending."""
    time_us: FloatArray
    """[kind, ideal]; unsupported members count as 0."""
    unsupported: IntArray
    """[kind, ideal]: members that cannot run there."""
    size_bytes: FloatArray
    """[kind, ideal]"""
    inside: NDArray[np.int16]
    """[net, ideal]: members of the net, source included."""
    is_cut: BoolArray
    """[net, ideal]"""
    cut_us: FloatArray
    """W: cost of all nets cut."""


Band = tuple[float, float]
"""From and to which work (least times summed up) an ideal is of interest."""


def enumerate_ideals(
    groups: Groups,
    limit: int,
    within: Sequence[Band] = ((0.0, np.inf),),
    until: float = np.inf,
) -> Ideals:
    """All ideals whose work lies in one of the bands, which are disjoint.

    Raises:
        TooManyError: more than `limit` had to be looked at, or the time (`monotonic`) was over.
    """
    masks: list[int] = []
    for band in within:
        masks += _masks(groups, limit - len(masks), band, until)
    return tabulate(groups, masks)


def bands(groups: Groups, cutoff_us: float) -> list[Band]:
    """Where a slot can end in a chain whose loads stay below a cutoff.

    Slots hold at most what they offer below T: those before an ideal have done all of it, and those
    left can do the rest. Bands that touch are joined.
    """
    total = float(work(groups).sum())
    rests = [(1 + SLACK) * rest for rest in offered_left(groups, cutoff_us)]
    all_us = rests[0]
    room = total * SLACK
    spans = sorted((total - rest - room, all_us - rest + room) for rest in rests)
    joined: list[Band] = []
    for low, high in spans:
        if low > high:
            continue
        if joined and low <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], high)
        else:
            joined.append((low, high))
    return joined


def offered_left(groups: Groups, cutoff_us: float) -> list[float]:
    """What the slots left in every state of `states` offer together."""
    per_slot = [offered(groups, kind, cutoff_us) for kind in range(len(groups.kinds))]
    return [
        sum(
            (len(kind.slots) - n) * per_slot[k]
            for k, (kind, n) in enumerate(zip(groups.kinds, state, strict=True))
        )
        for state in states(groups)
    ]


def tabulate(groups: Groups, masks: Sequence[int]) -> Ideals:
    """A family of ideals, given as bit masks of groups, with their sums."""
    width = -(-groups.count // 8)
    octets = b"".join(mask.to_bytes(width, "little") for mask in masks)
    bits = np.frombuffer(octets, np.uint8).reshape(len(masks), width)
    member = np.unpackbits(bits, axis=1, bitorder="little")[:, : groups.count].astype(bool)
    least = work(groups)
    # whole numbers, so that no superset ever comes before its subset
    ranks = member @ np.round(least / max(least.sum(), 1e-300) * 2**40)
    rows = np.lexsort((member.sum(axis=1), ranks))
    member = member[rows]
    is_bad = ~np.isfinite(groups.time_us)
    weights = np.where(is_bad, 0.0, groups.time_us)
    sizes = np.array([1 + len(net.targets) for net in groups.nets], dtype=np.int16)
    inside = np.asarray(members_of(groups, np.int16) @ member.T.astype(np.int16))
    is_cut = (inside > 0) & (inside < sizes[:, None])
    costs = np.array([net.cost_us for net in groups.nets])
    return Ideals(
        member,
        _packed(member),
        member @ least,
        (member @ weights.T).T.copy(),
        (member.astype(np.float64) @ is_bad.T).T.astype(np.int64),
        (member @ groups.size_bytes.T).T.copy(),
        inside,
        is_cut,
        costs @ is_cut,
    )


def _masks(groups: Groups, limit: int, band: Band, until: float) -> list[int]:
    """Ideals with work in a band, as bit masks: what every one of them holds, and then upwards."""
    low, high = band
    each = work(groups).tolist()
    before = [0] * groups.count
    after: list[list[int]] = [[] for _ in range(groups.count)]
    for a, b in groups.order:
        before[b] |= 1 << a
        after[a].append(b)
    first, done = _base(groups, low)
    ready = [v for v in range(groups.count) if not first >> v & 1 and not before[v] & ~first]
    looked = 1
    found = [first] if low <= done <= high else []
    # What stands before `index` in `ready` is left out from there on: no ideal comes twice.
    stack: list[tuple[int, float, list[int], int]] = [(first, done, ready, 0)]
    while stack:
        mask, sofar, ready, index = stack.pop()
        while index < len(ready) and sofar + each[ready[index]] > high:
            index += 1
        if index == len(ready):
            continue
        v = ready[index]
        stack.append((mask, sofar, ready, index + 1))
        grown, reached = mask | 1 << v, sofar + each[v]
        looked += 1
        if looked > limit or (looked % CHECKED == 0 and monotonic() > until):
            raise TooManyError
        if reached >= low:
            found.append(grown)
        opened = [w for w in after[v] if not before[w] & ~grown]
        stack.append((grown, reached, [*ready[index + 1 :], *opened], 0))
    return found


def _base(groups: Groups, low: float) -> tuple[int, float]:
    """Groups that every ideal with at least this work holds, and their work.

    An ideal without a group is without all that follows it too.
    """
    if low <= 0:
        return 0, 0.0
    each = work(groups)
    behind = work_before(groups, [(b, a) for a, b in groups.order])
    least = low - SLACK * float(each.sum())
    held = np.flatnonzero(float(each.sum()) - np.array(behind) < least)
    return sum(1 << int(v) for v in held), float(each[held].sum())


def _packed(member: BoolArray) -> NDArray[np.uint64]:
    packed = np.packbits(member, axis=1)
    short = -packed.shape[1] % 8
    return np.pad(packed, ((0, 0), (0, short))).view(np.uint64)


def reachable(
    groups: Groups, ideals: Ideals, ideal: int, kind: int, cutoff_us: float, least_us: float = 0.0
) -> tuple[IntArray, FloatArray]:
    """Larger ideals, and the load of a slot from here to there, where it is below the cutoff.

    Args:
        least_us: ideals with less work are of no interest.
    """
    room = offered(groups, kind, cutoff_us) * (1 + SLACK)
    room += SLACK * float(ideals.least_us[-1])
    end = int(np.searchsorted(ideals.least_us, ideals.least_us[ideal] + room, side="right"))
    start = max(ideal + 1, int(np.searchsorted(ideals.least_us, least_us)))
    window = slice(start, max(start, end))
    time = ideals.time_us[kind, window] - ideals.time_us[kind, ideal]
    fits = time < cutoff_us
    fits &= ideals.unsupported[kind, window] == ideals.unsupported[kind, ideal]
    size = ideals.size_bytes[kind, window] - ideals.size_bytes[kind, ideal]
    fits &= size <= groups.kinds[kind].capacity_bytes
    larger = np.flatnonzero(fits) + start
    holds = ~((ideals.words[ideal] & ~ideals.words[larger]).any(axis=1))
    larger = larger[holds]
    load = ideals.time_us[kind, larger] - ideals.time_us[kind, ideal]
    if groups.kinds[kind].pays:
        load = load + ideals.cut_us[larger]
        for net in np.flatnonzero(ideals.is_cut[:, ideal]):
            touched = ideals.inside[net, larger] > ideals.inside[net, ideal]
            load += groups.nets[net].cost_us * (
                touched.astype(np.int8) - ideals.is_cut[net, larger].astype(np.int8)
            )
    below = load < cutoff_us
    return larger[below], np.maximum(load[below], 0.0)
