"""Swaps of labels that leave conversions as they are: to keep limits, then to gain.

Two options of one operator that read and leave the same states can stand for each other; what
changes is exactly what rows and objective say. Swaps are taken in order of what they cost per
violation mended, then in order of what they gain, as long as every row holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.scale.labels import Labelled
from planner.solve.scale.rows import Rows

PASSES = 12
"""Rounds of repair, and of improvement; each moves an operator at most once."""


@dataclass(slots=True)
class Swaps:
    """All labels, flat; a group is swapped at its first operator."""

    op: IntArray
    label: IntArray
    family: IntArray
    """Labels of one operator with equal numbers can stand for each other."""
    aim: FloatArray
    use: FloatArray
    """(labels, rows), each row divided by its limit."""
    first: IntArray
    """Where each operator's labels start."""
    is_carried: BoolArray


def swaps(labelled: Labelled, found: Rows, hard: list[int], aim: list[FloatArray]) -> Swaps:
    """Makes the table; `hard` are the rows that count.

    Args:
        aim: of each kind's labels, what is to be small (soft rows priced in).
    """
    families = [_families(labelled, op) for op in range(labelled.ops)]
    kinds = [labelled.kind(op) for op in range(labelled.ops)]
    counts = np.array([len(kind.rank) for kind in kinds])
    scale = np.array([abs(found.rows[r].rhs) or 1.0 for r in hard])
    use = [u[:, hard] / scale for u in found.use]
    of = labelled.kind_of.tolist()
    members = [families[op][kind.rank] for op, kind in enumerate(kinds)]
    family = np.concatenate(members)
    return Swaps(
        np.repeat(np.arange(labelled.ops), counts),
        np.concatenate([np.arange(n) for n in counts]),
        family,
        np.concatenate([aim[k] for k in of]),
        np.vstack([use[k] for k in of]) if hard else np.zeros((int(counts.sum()), 0)),
        np.concatenate(([0], counts.cumsum()[:-1])),
        family >= 0,
    )


def _families(labelled: Labelled, op: int) -> IntArray:
    """Number of what an option computes, reads and leaves; -1 where another operator carries it."""
    known: dict[object, int] = {}
    found = []
    for g in labelled.covering[op]:
        option = labelled.problem.options[g]
        if labelled.first[g] != op:
            found.append(-1)
        else:
            alike = (option.ops, option.needs, option.makes)
            found.append(known.setdefault(alike, len(known)))
    return np.array(found, dtype=np.int64)


def polish(table: Swaps, labels: IntArray, limit: FloatArray, prices: FloatArray) -> IntArray:
    """Labels that keep the limits if swaps can, and gain what they can.

    Args:
        limit: of each hard row, in units of its own limit (1 where nothing is known better).
        prices: multipliers of the hard rows in the same units: how scarce each is.
    """
    current = table.first + labels
    used = table.use[current].sum(axis=0)
    for _ in range(PASSES):
        if not (used > limit).any():
            break
        if not _repair(table, current, used, limit):
            break
    for _ in range(PASSES):
        if not _improve(table, current, used, limit, prices):
            break
    return np.asarray(current - table.first, dtype=np.int64)


def _candidates(table: Swaps, current: IntArray) -> IntArray:
    """Flat numbers of labels that may replace the current ones."""
    same = table.family == table.family[current][table.op]
    usable = same & table.is_carried
    usable[current] = False
    return np.flatnonzero(usable)


def _repair(table: Swaps, current: IntArray, used: FloatArray, limit: FloatArray) -> bool:
    """One pass of swaps that mend violations at least cost; whether anything moved."""
    moves = _candidates(table, current)
    at = current[table.op[moves]]
    change = table.use[moves] - table.use[at]
    cost = table.aim[moves] - table.aim[at]
    over = np.maximum(used - limit, 0.0)
    mended = -change @ over
    good = np.flatnonzero(mended > 1e-15)
    score = np.where(cost[good] < 0, cost[good], cost[good] / mended[good])
    return _apply(table, current, used, limit, moves[good[np.argsort(score, kind="stable")]], True)


def _improve(
    table: Swaps, current: IntArray, used: FloatArray, limit: FloatArray, prices: FloatArray
) -> bool:
    """One pass of swaps that gain and keep the limits; whether anything moved."""
    moves = _candidates(table, current)
    at = current[table.op[moves]]
    gain = table.aim[at] - table.aim[moves]
    good = np.flatnonzero(gain > 1e-12)
    spent = np.maximum((table.use[moves[good]] - table.use[at[good]]) @ (prices + 1e-12), 1e-15)
    order = np.argsort(-gain[good] / spent, kind="stable")
    return _apply(table, current, used, limit, moves[good[order]], False)


def _apply(
    table: Swaps,
    current: IntArray,
    used: FloatArray,
    limit: FloatArray,
    moves: IntArray,
    is_repair: bool,
) -> bool:
    """Takes moves in order, one an operator; `current` and `used` change in place."""
    moved: set[int] = set()
    for move in moves.tolist():
        op = int(table.op[move])
        if op in moved:
            continue
        after = used + table.use[move] - table.use[current[op]]
        worse = (after > limit + 1e-12) & (after > used + 1e-15)
        if worse.any():
            continue
        if is_repair and not (np.maximum(used - limit, 0.0) @ (used - after) > 0):
            continue
        used[:] = after
        current[op] = move
        moved.add(op)
        if is_repair and not (used > limit).any():
            break
    return bool(moved)
