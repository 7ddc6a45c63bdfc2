"""Optimal cuts of one linear order of the groups into slots: seeds for contiguous assignments.

With the groups in an order that every edge follows, segments [j, i) of it are convex, and chains of
segments are chains of ideals. f[used][i] = min over j and kind of max(f[used - kind][j],
load[kind][j, i]) over used slots of every kind: O(states · n²) vectorised (PipeDream's dynamic
program, Narayanan et al., SOSP 2019, with slots of several kinds, memory and paid crossings).

Segments that cost a cutoff or more are of no use, and those below it are short where there are many
slots: only so many rows j are looked at for each i. So a low cutoff is tried first, and higher ones
until there is a chain, which is then the best of all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from planner.solve.assign.instance import Groups, spread
from planner.solve.data import FloatArray, IntArray

FIRST, GROWTH = 1.25, 1.6
"""The first cutoff, relative to all work spread evenly, and the factor from one to the next."""
S_PER_CELL = 3e-8
"""Seconds of processor for a pair of groups, kind and kind again, of a cut."""
SHORT = 200
"""Groups so few that one cutoff is enough: all segments are looked at in milliseconds."""

States = dict[tuple[int, ...], tuple[tuple[int, int], ...]]
"""A count of used slots per kind -> (kind, position after it) of every slot used, in order."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A chain: groups in stages, one slot's kind each."""

    value_us: float
    stage: tuple[int, ...]
    """Of each group."""
    kinds: tuple[int, ...]
    """Of each stage."""


def segment_loads(groups: Groups, order: Sequence[int]) -> list[FloatArray]:
    """load[kind][j, i] of the segment [j, i) of an order; infinite where it cannot stand there."""
    crossing = _crossings(groups, order)
    ends = np.arange(groups.count + 1)
    loads = []
    for row, kind in enumerate(groups.kinds):
        time = groups.time_us[row, order]
        sums = _sums(np.where(np.isfinite(time), time, 0.0))
        load = sums[None, :] - sums[:, None]
        if kind.pays:
            load += crossing
        last = _last(time, groups.size_bytes[row, order], kind.capacity_bytes)
        load[(ends < ends[:, None]) | (ends > last[:, None])] = np.inf
        loads.append(load)
    return loads


def _sums(values: FloatArray) -> FloatArray:
    """Of the first values, from none of them to all."""
    return np.concatenate(([0.0], np.cumsum(values)))


def _last(time: FloatArray, size: FloatArray, capacity_bytes: float) -> IntArray:
    """[j] -> where segments from j end at the latest: supported, and within memory."""
    count = len(time)
    held = _sums(size)
    full = np.searchsorted(held, held + capacity_bytes, side="right") - 1
    bad = np.append(np.flatnonzero(~np.isfinite(time)), count)
    return np.asarray(np.minimum(full, bad[np.searchsorted(bad, np.arange(count + 1))]))


def _crossings(groups: Groups, order: Sequence[int]) -> FloatArray:
    """[j, i] -> crossing costs of the segment [j, i): rectangles of nets, summed up."""
    count = groups.count
    where = {group: index for index, group in enumerate(order)}
    corner = np.zeros((count + 2, count + 2))
    for net in groups.nets:
        source = where[net.source]
        targets = sorted(where[target] for target in net.targets)
        for low, high, left, right, sign in _rectangles(source, targets, count):
            corner[low, left] += sign * net.cost_us
            corner[high + 1, left] -= sign * net.cost_us
            corner[low, right + 1] -= sign * net.cost_us
            corner[high + 1, right + 1] += sign * net.cost_us
    for above, row in itertools.pairwise(corner):
        row += above  # several times as fast as a cumsum down the columns
    return np.cumsum(corner, axis=1, out=corner)[: count + 1, : count + 1]


def _rectangles(
    source: int, targets: Sequence[int], count: int
) -> Iterator[tuple[int, int, int, int, int]]:
    """Where a net costs: (first j, last j, first i, last i, sign), for segments [j, i).

    Leaving: j <= source < i, but for segments that hold all targets. Entering: the first target at
    or after j lies before i, and the source is on neither side of that.
    """
    yield 0, source, source + 1, count, 1
    yield 0, min(source, targets[0]), max(source, targets[-1]) + 1, count, -1
    previous = -1
    for target in targets:
        low, high = previous + 1, target
        if target < source:
            yield low, high, target + 1, source, 1
        else:
            low = max(low, source + 1)
            yield low, high, target + 1, count, 1
        previous = target


def states(groups: Groups) -> list[tuple[int, ...]]:
    """All counts of used slots per kind, fewest first."""
    ranges = [range(len(kind.slots) + 1) for kind in groups.kinds]
    return sorted(itertools.product(*ranges), key=lambda used: (sum(used), used))


def cut(
    groups: Groups,
    order: Sequence[int],
    cutoff_us: float = np.inf,
    deadline: float = np.inf,
) -> Cut | None:
    """The best chain of segments of an order, if one costs less than the cutoff and is found before
    the deadline (`monotonic`)."""
    loads = segment_loads(groups, order)
    for cutoff in _cutoffs(groups, cutoff_us):
        found = _cut(groups, order, loads, cutoff, deadline)
        if found is not None:
            return found
    return None


def cut_s(groups: Groups, most: int) -> float:
    """About what a cut of at most so many places takes, in seconds of processor."""
    return S_PER_CELL * min(groups.count, most) ** 2 * (1 + len(groups.kinds))


def _cutoffs(groups: Groups, most_us: float) -> Iterator[float]:
    """Cutoffs to try, the last of them the one asked for."""
    least = groups.time_us.min(axis=0)
    even = float(least.sum()) / max(groups.slot_count, 1)
    first, most = max(FIRST * even, float(least.max(initial=0.0))), 2 * float(least.sum())
    while groups.count > SHORT and 0 < first < min(most_us, most):
        yield first
        first *= GROWTH
    yield most_us


def _cut(
    groups: Groups,
    order: Sequence[int],
    loads: Sequence[FloatArray],
    cutoff_us: float,
    deadline: float,
) -> Cut | None:
    count = groups.count
    bands = [_band(load, cutoff_us) for load in loads]
    best = {used: np.full(count + 1, np.inf) for used in states(groups)}
    came: dict[tuple[int, ...], list[tuple[int, IntArray]]] = {used: [] for used in best}
    for used in best:
        if not any(used):
            best[used][0] = 0.0
            continue
        if monotonic() > deadline:
            return None
        for kind in range(len(used)):
            before = best[_less(used, kind)] if used[kind] else None
            if before is None or not (before < cutoff_us).any():
                continue
            longest = len(bands[kind]) - 1
            padded = np.concatenate((np.full(longest, np.inf), before))
            values = np.maximum(sliding_window_view(padded, count + 1), bands[kind])
            row = values.argmin(axis=0)
            value = values[row, np.arange(count + 1)]
            better = value < best[used]
            best[used] = np.where(better, value, best[used])
            came[used].append((kind, np.where(better, row + np.arange(count + 1) - longest, -1)))
    value, last = min((best[used][count], used) for used in best)
    return _trace(groups, order, came, last, float(value)) if value < cutoff_us else None


def _band(load: FloatArray, cutoff_us: float) -> FloatArray:
    """[r, i] -> load of the segment [i - longest + r, i); infinite where there is none.

    As many rows as the longest segment below the cutoff has groups, and one.
    """
    below = load < cutoff_us
    first = below.argmax(axis=0)
    has_any = below[first, np.arange(len(load))]
    longest = int(np.where(has_any, np.arange(len(load)) - first, 0).max(initial=0))
    band = np.full((longest + 1, len(load)), np.inf)
    for distance in range(longest + 1):
        band[longest - distance, distance:] = load.diagonal(distance)
    return band


def _less(used: tuple[int, ...], kind: int) -> tuple[int, ...]:
    return tuple(n - (k == kind) for k, n in enumerate(used))


def _trace(
    groups: Groups,
    order: Sequence[int],
    came: dict[tuple[int, ...], list[tuple[int, IntArray]]],
    used: tuple[int, ...],
    value: float,
) -> Cut:
    stage = [0] * groups.count
    kinds: list[int] = []
    end = groups.count
    pieces = []
    while any(used):
        kind, start = next((k, int(c[end])) for k, c in reversed(came[used]) if c[end] >= 0)
        pieces.append((kind, start, end))
        end, used = start, _less(used, kind)
    for number, (kind, start, stop) in enumerate(reversed(pieces)):
        kinds.append(kind)
        for position in range(start, stop):
            stage[order[position]] = number
    return Cut(value, tuple(stage), tuple(kinds))


def slots_of(groups: Groups, found: Cut) -> list[int]:
    """A slot for every operator: stage by stage the next free one of its kind."""
    free = [iter(kind.slots) for kind in groups.kinds]
    slots = [next(free[kind]) for kind in found.kinds]
    return spread(groups, [slots[stage] for stage in found.stage])
