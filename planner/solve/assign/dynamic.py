"""The best chain of a family of ideals: a dynamic program, exact where the family holds all.

    f[used][I] = min over kinds k and ideals J ⊂ I of max(f[used - k][J], load_k(I \\ J))

Only what a cutoff T leaves is looked at: loads below T, and ideals from which the slots left can
still finish the rest below T.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from planner.solve.assign.ideals import Ideals, TooManyError, offered_left, reachable
from planner.solve.assign.instance import Groups
from planner.solve.assign.linear import Cut, states
from planner.solve.assign.windows import SLACK, all_offered
from planner.solve.data import BoolArray, FloatArray, IntArray


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


def best_chain(groups: Groups, cutoff_us: float, ideals: Ideals, deadline: float) -> Cut | None:
    """The best chain of a family of ideals that costs less than the cutoff; None: there is none.

    Raises:
        TooManyError: the deadline passed.
    """
    if not _is_closed(groups, ideals):
        return None
    table = _table(groups, ideals, cutoff_us)
    follow = {used: index for index, used in enumerate(table.used)}
    for ideal in range(len(ideals.least_us) - 1):
        reached = np.flatnonzero(table.best[:, ideal] < cutoff_us)
        if not len(reached):
            continue
        if monotonic() > deadline:
            raise TooManyError
        for kind in range(len(groups.kinds)):
            targets = _targets(groups, table, follow, kind, reached)
            if not targets:
                continue
            least = min(float(table.least_before[target]) for _, target in targets)
            larger, load = reachable(groups, ideals, ideal, kind, cutoff_us, least)
            if len(larger):
                _advance(table, ideals, (ideal, kind, targets), (larger, load))
    last = int(table.best[:, -1].argmin())
    if table.best[last, -1] >= cutoff_us:
        return None
    return _trace(groups, ideals, table, last)


def _is_closed(groups: Groups, ideals: Ideals) -> bool:
    """Whether a family has nothing and everything; without bands for them there is no plan."""
    is_there = groups.count > 0 and len(ideals.least_us) > 0
    return is_there and not ideals.member[0].any() and bool(ideals.member[-1].all())


def pairs(groups: Groups, ideals: Ideals, cutoff_us: float) -> int:
    """How many pairs of ideals `best_chain` looks at for each kind of slot, at most."""
    room = all_offered(groups, cutoff_us)[0] * (1 + SLACK)
    ends = np.searchsorted(ideals.least_us, ideals.least_us + room, side="right")
    return int((ends - np.arange(len(ends))).sum())


def _targets(
    groups: Groups, table: _Table, follow: dict[tuple[int, ...], int], kind: int, reached: IntArray
) -> list[tuple[int, int]]:
    """(state, state with one more slot of a kind) of the states that have one left."""
    found = []
    for state in reached.tolist():
        used = table.used[state]
        if used[kind] < len(groups.kinds[kind].slots):
            grown = tuple(n + (k == kind) for k, n in enumerate(used))
            found.append((state, follow[grown]))
    return found


def _table(groups: Groups, ideals: Ideals, cutoff_us: float) -> _Table:
    used = states(groups)
    shape = (len(used), len(ideals.least_us))
    best = np.full(shape, np.inf)
    best[0, 0] = 0.0
    left = np.array(offered_left(groups, cutoff_us)) * (1 + SLACK)
    least = ideals.least_us[-1] * (1 - SLACK) - left
    return _Table(used, best, np.zeros(shape, np.int32), np.zeros(shape, np.int8), least)


def _advance(
    table: _Table,
    ideals: Ideals,
    at: tuple[int, int, list[tuple[int, int]]],
    to: tuple[IntArray, FloatArray],
) -> None:
    """Updates f for one more slot of a kind, from an ideal in every state that reached it."""
    ideal, kind, targets = at
    for state, target in targets:
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
