"""The ideals that one boundary may be, and what they leave for the boundaries beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from planner.solve.assign.listing import Limit
from planner.solve.assign.narrowed import Narrowed
from planner.solve.assign.windows import SLACK
from planner.solve.data import BoolArray, FloatArray, IntArray

BARRED = 4.0
"""What a slot does not support takes so many times the cutoff."""


@dataclass(frozen=True, slots=True)
class Family:
    """The ideals of one boundary, with their sums."""

    member: BoolArray
    time_us: FloatArray
    """[ideal, kind]"""
    size_bytes: FloatArray
    """[ideal, kind]"""
    nets: IntArray
    """Those that some of them cut."""
    count: IntArray
    """[ideal, one of these nets]: members held."""
    is_cut: BoolArray
    """[ideal, one of these nets]"""

    def cut_us(self, cost: FloatArray) -> FloatArray:
        """Of each ideal: costs of the nets that it cuts; cost by net."""
        return np.asarray(self.is_cut @ cost[self.nets])

    def taken(self, rows: IntArray) -> Family:
        """Some of the ideals."""
        return replace(
            self,
            member=self.member[rows],
            time_us=self.time_us[rows],
            size_bytes=self.size_bytes[rows],
            count=self.count[rows],
            is_cut=self.is_cut[rows],
        )


def family_of(narrowed: Narrowed, member: BoolArray) -> Family:
    groups, nets = narrowed.known.groups, narrowed.known.nets
    barred = BARRED * narrowed.cutoff_us
    time = np.where(np.isfinite(groups.time_us), groups.time_us, barred)
    free = member.any(axis=0) & ~member.all(axis=0)
    fixed = member.all(axis=0)
    held = nets.members @ fixed.astype(np.int64)
    more = nets.members @ free.astype(np.int64)
    may = np.flatnonzero((held + more > 0) & (held < nets.size))
    inner = nets.members[may][:, np.flatnonzero(free)]
    count = held[may] + np.asarray(inner @ member[:, free].T.astype(np.int64)).T
    is_cut = (count > 0) & (count < nets.size[may])
    time_us = time @ fixed + member[:, free] @ time[:, free].T
    size = groups.size_bytes @ fixed + member[:, free] @ groups.size_bytes[:, free].T
    return Family(member, time_us, size, may, count, is_cut)


def beside(narrowed: Narrowed, families: Mapping[int, Family], p: int) -> Iterator[Limit]:
    """What the ideals of the neighbours leave: the load of the slot between is below the cutoff.
    Of the nets only those count that one of the two boundaries cannot cut."""
    groups = narrowed.known.groups
    barred = BARRED * narrowed.cutoff_us
    cost = narrowed.known.nets.cost_us
    may = narrowed.priced().may[p - 1]
    for other, slot, sign in ((p - 1, p - 1, 1), (p + 1, p, -1)):
        if other not in families:
            continue
        family, kind = families[other], narrowed.kinds[slot]
        paid = cost * groups.kinds[kind].pays
        time = np.where(np.isfinite(groups.time_us[kind]), groups.time_us[kind], barred)
        mine = paid.copy()
        mine[family.nets[family.is_cut.any(axis=0)]] = 0.0
        reached = float((sign * family.time_us[:, kind] - family.cut_us(paid * ~may)).max())
        room = SLACK * (narrowed.cutoff_us + float(family.time_us[:, kind].max()))
        yield Limit(sign * time, mine, narrowed.cutoff_us + reached + room)


def consistent(
    narrowed: Narrowed, slot: int, before: Family, after: Family
) -> tuple[Family, Family]:
    """Without the ideals that no other can follow, or none precede, with a load below the cutoff:
    by their work and the nets that only one of the two boundaries can cut."""
    number = narrowed.kinds[slot]
    paid = narrowed.known.nets.cost_us * narrowed.known.groups.kinds[number].pays
    own, others = paid.copy(), paid.copy()
    own[after.nets[after.is_cut.any(axis=0)]] = 0.0
    others[before.nets[before.is_cut.any(axis=0)]] = 0.0
    done = before.time_us[:, number] - before.cut_us(own)
    reached = after.time_us[:, number] + after.cut_us(others)
    most = narrowed.cutoff_us * (1 + SLACK) + SLACK * float(after.time_us.max(initial=0.0))
    first = np.flatnonzero(done > reached.min(initial=np.inf) - most)
    then = np.flatnonzero(reached < done.max(initial=-np.inf) + most)
    return before.taken(first), after.taken(then)
