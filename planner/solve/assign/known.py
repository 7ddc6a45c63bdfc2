"""What is the same for all orders of kinds and all cutoffs, and what the order of groups says of
boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from planner.solve.assign.closure import Nets
from planner.solve.assign.instance import Edge, Groups
from planner.solve.assign.windows import speed, work, work_before
from planner.solve.data import BoolArray, FloatArray, IntArray


@dataclass(slots=True)
class Known:
    """What is the same for all orders of kinds and all cutoffs."""

    groups: Groups
    nets: Nets
    work: FloatArray = field(init=False)
    before_us: FloatArray = field(init=False)
    """Work of each group with all that precede it;"""
    behind_us: FloatArray = field(init=False)
    """with all that follow it."""
    speeds: list[float] = field(init=False)
    """Of each kind."""
    barred: BoolArray = field(init=False)
    """[kind, group]: whether it cannot run there."""
    before: list[Edge] = field(init=False)
    """(a, b): a precedes b; those of late a first."""
    behind: list[Edge] = field(init=False)
    """(b, a): b follows a; those of early b first."""
    prices: dict[tuple[tuple[int, ...], int], FloatArray] = field(default_factory=dict)
    """The best ones so far, by order of kinds and use."""

    def __post_init__(self) -> None:
        groups = self.groups
        self.work = work(groups)
        self.before_us = np.array(work_before(groups, groups.order))
        self.behind_us = np.array(work_before(groups, [(b, a) for a, b in groups.order]))
        self.speeds = [speed(groups, kind) for kind in range(len(groups.kinds))]
        self.barred = ~np.isfinite(groups.time_us)
        self.before = sorted(groups.order, reverse=True)
        self.behind = sorted((b, a) for a, b in groups.order)


def pools(groups: Groups, kinds: Sequence[int], *, is_pooled: bool) -> tuple[IntArray, FloatArray]:
    """The pool of each place, and how many slots each has."""
    places = np.arange(len(kinds))
    if not is_pooled:
        return places, np.ones(len(kinds))
    count = np.ones(len(kinds) // 2 + 1)
    count[0] = len(groups.kinds[kinds[0]].slots)
    return np.where(places % 2, (places + 1) // 2, 0), count


def held(
    least: Sequence[BoolArray], barred: Sequence[BoolArray], before: Sequence[Edge]
) -> list[BoolArray]:
    """What boundaries hold if they hold at least this: all that the one before holds, and what the
    slot behind cannot run of what the next one holds, with all that precedes it.

    Args:
        barred: of every slot, from the one before the first boundary to the one behind the last:
            what it cannot run.
        before: (a, b) where b brings a along, each a behind all that a brings along itself.
    """
    found = [mask.copy() for mask in least]
    behind = np.ones_like(barred[-1])
    for mask, unable in zip(reversed(found), reversed(barred), strict=False):
        more = behind & unable & ~mask
        mask |= closed(more, before) if more.any() else more
        behind = mask
    for mask, then in pairwise(found):
        then |= mask
    return found


def closed(chosen: BoolArray, before: Sequence[Edge]) -> BoolArray:
    """Chosen groups with all that they bring along."""
    is_held = chosen.tolist()
    for a, b in before:
        if is_held[b]:
            is_held[a] = True
    return np.array(is_held, dtype=np.bool_)
