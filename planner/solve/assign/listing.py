"""Lists all ideals that a boundary may be, below a cutoff on loads.

At any prices λ, the loads of a plan below the cutoff T add up to less than T·Σ λ; what all else
costs at least, whatever ideal boundary p is, leaves so much for the ideal itself: with a_v and f_n
of `priced`,

    Σ_{v in I_p} a_v + Σ_n f_n·c_n·[I_p cuts n] <= T·Σ_q λ_q - (least cost of all else)

Ideals are listed group by group, in topological order; one that must already pay more is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.assign.ideals import TooManyError
from planner.solve.assign.narrowed import Narrowed
from planner.solve.assign.windows import SLACK
from planner.solve.data import BoolArray, FloatArray

MOST_ROWS = 30_000
"""Ideals of one boundary, finished or not, up to which they are listed."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What an ideal may cost."""

    weight: FloatArray
    """By group."""
    charge: FloatArray
    """By net."""
    most: float


def limits(narrowed: Narrowed, boundary: int) -> list[Limit]:
    """What the best prices known and the work around a boundary leave for its ideal."""
    priced, known = narrowed.priced(), narrowed.known
    around = [s * (p + 1) for p in (boundary, boundary - 1, boundary + 1) for s in (1, -1)]
    asked = [known.prices.get((tuple(narrowed.kinds), use)) for use in (0, *around)]
    found = []
    for prices in asked:
        if prices is None:
            continue
        weight, charge, rest = priced.rest(prices, boundary)
        most = narrowed.cutoff_us * float(priced.limits() @ prices) * (1 + SLACK) - rest
        found.append(Limit(weight, charge, most))
    room = 3 * SLACK * float(known.work.sum())
    none = np.zeros(len(known.groups.nets))
    low, high = float(narrowed.lows[boundary]), float(narrowed.highs[boundary])
    found.append(Limit(known.work, none, high + room))
    found.append(Limit(-known.work, none, room - low))
    return found


def list_ideals(
    narrowed: Narrowed, boundary: int, limits: Sequence[Limit], is_over: Callable[[], bool]
) -> BoolArray:
    """[ideal, group]: all that a boundary may be in plans below the cutoff, and within limits.

    Raises:
        TooManyError: they are too many.
    """
    groups, nets = narrowed.known.groups, narrowed.known.nets
    inside, outside = narrowed.slots.inside[boundary], narrowed.slots.outside[boundary]
    free = np.flatnonzero(~(inside | outside))
    weights = np.array([limit.weight for limit in limits])
    charges = np.array([limit.charge for limit in limits])
    column = {int(v): i for i, v in enumerate(free)}
    held = nets.members @ inside.astype(np.int64) > 0
    left = nets.members @ outside.astype(np.int64) > 0
    # what is paid whatever is free does, and what groups to come may win back
    paid = weights[:, inside].sum(axis=1) + charges[:, held & left].sum(axis=1)
    gains = np.minimum(weights[:, free], 0.0)
    to_come = np.cumsum(gains[:, ::-1], axis=1)[:, ::-1]
    to_come = np.concatenate((to_come, np.zeros((len(limits), 1))), axis=1)
    most = np.array([limit.most for limit in limits])
    before: list[list[int]] = [[] for _ in free]
    for a, b in groups.order:
        if a in column and b in column:
            before[column[b]].append(column[a])
    touching = _nets_by_group(narrowed, column, ~(held & left) & (charges > 0).any(axis=0))
    rows = np.zeros((1, len(free)), dtype=np.bool_)
    spent = paid[None].copy()
    for i, v in enumerate(free.tolist()):
        can = rows[:, before[i]].all(axis=1)
        grown = rows[can].copy()
        grown[:, i] = True
        spent = np.concatenate((spent, spent[can] + weights[:, v]))
        rows = np.concatenate((rows, grown))
        for net, earlier in touching[i]:
            some = held[net] | rows[:, earlier].any(axis=1)
            lack = left[net] | ~rows[:, earlier].all(axis=1)
            is_new = ~(some & lack) & np.where(rows[:, i], lack, some)
            spent[is_new] += charges[:, net]
        kept = (spent + to_come[:, i + 1] <= most).all(axis=1)
        rows, spent = rows[kept], spent[kept]
        if len(rows) > MOST_ROWS or is_over():
            raise TooManyError
    ideals = np.repeat(inside[None], len(rows), axis=0)
    ideals[:, free] = rows
    return ideals


def _nets_by_group(
    narrowed: Narrowed, column: dict[int, int], is_open: BoolArray
) -> list[list[tuple[int, list[int]]]]:
    """Of each free group: its nets, and their free members before it."""
    found: list[list[tuple[int, list[int]]]] = [[] for _ in column]
    for number in np.flatnonzero(is_open).tolist():
        net = narrowed.known.groups.nets[number]
        free = sorted(column[v] for v in (net.source, *net.targets) if v in column)
        for place, i in enumerate(free):
            found[i].append((number, free[:place]))
    return found
