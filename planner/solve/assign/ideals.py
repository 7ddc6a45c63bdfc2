"""Chains of ideals, exactly: the best contiguous assignment where ideals are few.

An ideal holds the predecessors of its members; a chain of ideals 0 = I_0 ⊆ I_1 ⊆ ... cuts the
groups into slots S_p = I_p \\ I_{p-1} (Tarnawski et al., NeurIPS 2020, section 5.1.1).

    f[used][I] = min over kinds k and ideals J ⊂ I of max(f[used - k][J], load_k(I \\ J))

A net p costs a paying slot I \\ J once if it is cut by it, so with W(I) the cost of all nets that I
cuts, F(J) the nets that J cuts and n_p(I) = |p ∩ I|,

    crossing(I \\ J) = W(I) + Σ_{p in F(J)} c_p · ([n_p(I) > n_p(J)] - [I cuts p])

which touches few nets for each J. Only what a cutoff T leaves is looked at: loads below T, and
ideals from which the slots left can still finish the rest below T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from planner.solve.assign.instance import Groups
from planner.solve.assign.linear import Cut, states
from planner.solve.assign.windows import SLACK, speed
from planner.solve.data import BoolArray, FloatArray, IntArray


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
    """Time of the members, each at its fastest kind; ascending."""
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


def enumerate_ideals(groups: Groups, limit: int) -> Ideals:
    """All ideals.

    Raises:
        TooManyError: there are more than `limit`.
    """
    return tabulate(groups, _masks(groups, limit))


def tabulate(groups: Groups, masks: Sequence[int]) -> Ideals:
    """A family of ideals, given as bit masks of groups, with their sums."""
    width = -(-groups.count // 8)
    octets = b"".join(mask.to_bytes(width, "little") for mask in masks)
    bits = np.frombuffer(octets, np.uint8).reshape(len(masks), width)
    member = np.unpackbits(bits, axis=1, bitorder="little")[:, : groups.count].astype(bool)
    least = groups.time_us.min(axis=0)
    # whole numbers, so that no superset ever comes before its subset
    ranks = member @ np.round(least / max(least.sum(), 1e-300) * 2**40)
    rows = np.lexsort((member.sum(axis=1), ranks))
    member = member[rows]
    is_bad = ~np.isfinite(groups.time_us)
    weights = np.where(is_bad, 0.0, groups.time_us)
    nets = np.zeros((len(groups.nets), groups.count), dtype=np.float32)
    for number, net in enumerate(groups.nets):
        nets[number, [net.source, *net.targets]] = 1
    inside = (nets @ member.T.astype(np.float32)).astype(np.int16)
    is_cut = (inside > 0) & (inside < nets.sum(axis=1, keepdims=True))
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


def _masks(groups: Groups, limit: int) -> list[int]:
    before = [0] * groups.count
    after: list[list[int]] = [[] for _ in range(groups.count)]
    for a, b in groups.order:
        before[b] |= 1 << a
        after[a].append(b)
    sources = [v for v in range(groups.count) if not before[v]]
    seen = {0}
    stack: list[tuple[int, list[int]]] = [(0, sources)]
    while stack:
        mask, ready = stack.pop()
        for index, v in enumerate(ready):
            grown = mask | 1 << v
            if grown in seen:
                continue
            seen.add(grown)
            if len(seen) > limit:
                raise TooManyError
            opened = [w for w in after[v] if not before[w] & ~grown]
            stack.append((grown, [*ready[:index], *ready[index + 1 :], *opened]))
    return list(seen)


def _packed(member: BoolArray) -> NDArray[np.uint64]:
    packed = np.packbits(member, axis=1)
    short = -packed.shape[1] % 8
    return np.pad(packed, ((0, 0), (0, short))).view(np.uint64)


@dataclass(slots=True)
class _Table:
    """f, where it came from, and what the slots left can finish."""

    used: list[tuple[int, ...]]
    best: FloatArray
    """[state, ideal]"""
    came: NDArray[np.int32]
    """[state, ideal]: the ideal before."""
    kind: NDArray[np.int8]
    """[state, ideal]: of the slot that got here."""
    least_before: FloatArray
    """[state]: an ideal with less is too small to be finished below the cutoff."""


def best_chain(groups: Groups, cutoff_us: float, limit: int, deadline: float) -> Cut | None:
    """The best chain that costs less than the cutoff; None: proved, there is none.

    Raises:
        TooManyError: more than `limit` ideals, or the deadline passed.
    """
    if not groups.count:
        return None
    ideals = enumerate_ideals(groups, limit)
    table = _table(groups, ideals, cutoff_us)
    follow = {used: index for index, used in enumerate(table.used)}
    for ideal in range(len(ideals.least_us) - 1):
        reached = np.flatnonzero(table.best[:, ideal] < cutoff_us)
        if not len(reached):
            continue
        if monotonic() > deadline:
            raise TooManyError
        for kind in range(len(groups.kinds)):
            larger, load = reachable(groups, ideals, ideal, kind, cutoff_us)
            if len(larger):
                _advance(groups, table, follow, ideals, (ideal, kind, reached), (larger, load))
    last = int(table.best[:, -1].argmin())
    if table.best[last, -1] >= cutoff_us:
        return None
    return _trace(groups, ideals, table, last)


def _table(groups: Groups, ideals: Ideals, cutoff_us: float) -> _Table:
    used = states(groups)
    shape = (len(used), len(ideals.least_us))
    best = np.full(shape, np.inf)
    best[0, 0] = 0.0
    speeds = [speed(groups, kind) for kind in range(len(groups.kinds))]
    left = [
        sum(
            (len(kind.slots) - n) * speeds[k]
            for k, (kind, n) in enumerate(zip(groups.kinds, state, strict=True))
        )
        for state in used
    ]
    least = ideals.least_us[-1] * (1 - SLACK) - cutoff_us * np.array(left)
    return _Table(used, best, np.zeros(shape, np.int32), np.zeros(shape, np.int8), least)


def reachable(
    groups: Groups, ideals: Ideals, ideal: int, kind: int, cutoff_us: float
) -> tuple[IntArray, FloatArray]:
    """Larger ideals, and the load of a slot from here to there, where it is below the cutoff."""
    room = cutoff_us * (1 + SLACK)
    end = int(np.searchsorted(ideals.least_us, ideals.least_us[ideal] + room, side="right"))
    window = slice(ideal + 1, end)
    time = ideals.time_us[kind, window] - ideals.time_us[kind, ideal]
    fits = time < cutoff_us
    fits &= ideals.unsupported[kind, window] == ideals.unsupported[kind, ideal]
    size = ideals.size_bytes[kind, window] - ideals.size_bytes[kind, ideal]
    fits &= size <= groups.kinds[kind].capacity_bytes
    larger = np.flatnonzero(fits) + ideal + 1
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


def _advance(
    groups: Groups,
    table: _Table,
    follow: dict[tuple[int, ...], int],
    ideals: Ideals,
    at: tuple[int, int, IntArray],
    to: tuple[IntArray, FloatArray],
) -> None:
    """Updates f for one more slot of a kind, from an ideal in every state that reached it."""
    ideal, kind, reached = at
    for state in reached.tolist():
        used = table.used[state]
        if used[kind] == len(groups.kinds[kind].slots):
            continue
        target = follow[tuple(n + (k == kind) for k, n in enumerate(used))]
        larger, load = to
        enough = ideals.least_us[larger] >= table.least_before[target]
        larger = larger[enough]
        value = np.maximum(load[enough], table.best[state, ideal])
        better = value < table.best[target, larger]
        larger = larger[better]
        table.best[target, larger] = value[better]
        table.came[target, larger] = ideal
        table.kind[target, larger] = kind


def _trace(groups: Groups, ideals: Ideals, table: _Table, state: int) -> Cut:
    follow = {used: index for index, used in enumerate(table.used)}
    ideal = table.best.shape[1] - 1
    value = float(table.best[state, ideal])
    bits = ideals.member
    pieces: list[tuple[int, BoolArray]] = []
    while ideal:
        kind, before = int(table.kind[state, ideal]), int(table.came[state, ideal])
        pieces.append((kind, bits[ideal] & ~bits[before]))
        used = tuple(n - (k == kind) for k, n in enumerate(table.used[state]))
        state, ideal = follow[used], before
    stage = np.zeros(groups.count, dtype=np.int64)
    for number, (_, piece) in enumerate(reversed(pieces)):
        stage[piece] = number
    return Cut(value, tuple(stage.tolist()), tuple(kind for kind, _ in reversed(pieces)))
