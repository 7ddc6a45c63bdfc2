"""First schedules: slots filled along linear orders, short paths left on an unlimited slot.

Operators on an unlimited slot wait for nothing but their producers, so those that lie on short
paths only need no other: they stay there, and bounded slots share the rest. Which paths are short,
how full a slot may get and how much it may leave to the next is tried: coarsely from the best
plan's latency down, then near what did best.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.solve.assign.fill import Filler
from planner.solve.assign.glue import most_us
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, spread
from planner.solve.assign.linear import Cut
from planner.solve.data import FloatArray

STEP = 2.0
"""From one cutoff to the next, coarsely;"""
LEVELS = 12
"""how many of them at most."""
SLACKS = (0.0, 0.5)
"""What slots may leave to others."""
NEAR, NEAR_SHARE = 2.0, 0.7
"""Factor up to which cutoffs near the best ones differ from them, and how often they are tried."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How slots are filled."""

    order: int
    slack: float
    cutoff_us: float
    """Above the load of every slot."""
    has_stretches: bool
    """Unlimited slots take stretches between the others too."""
    path_us: float
    """Paths on unlimited slots up to which operators stay there; 0: none does."""


class ScheduleFills:
    """Fills of one problem, an endless sequence of settings."""

    def __init__(self, best: Incumbent, groups: Groups, orders: Sequence[Sequence[int]]) -> None:
        """O(groups + edges)."""
        self._best, self._groups, self._orders = best, groups, orders
        self._rng = random.Random(best.seed)
        self._path_us = paths_us(groups)
        self._settings = itertools.chain(self._coarse(), self._near())
        self._found: Setting | None = None

    def run(self, most: int | None, is_over: Callable[[], bool]) -> None:
        """Offers the plans of further settings, at most so many (None: endlessly), until it is
        over."""
        for setting in itertools.islice(self._settings, most):
            found = self.filled(setting)
            if found is not None and self._best.offer(found, "filled slots"):
                self._found = setting
            if is_over():
                self._best.is_clocked = True
                return

    def filled(self, setting: Setting) -> list[int] | None:
        """The slot of each operator; None: slots are too few."""
        groups = self._groups
        inside = between(groups, np.flatnonzero(self._path_us > setting.path_us).tolist())
        part = [group for group in self._orders[setting.order] if group in inside]
        held_bytes = [0.0] * len(groups.kinds)
        for group in set(range(groups.count)) - inside:
            kind = _unlimited(groups, group)
            held_bytes[kind] += float(groups.size_bytes[kind, group])
        found = Filler(groups, part).fill(
            setting.cutoff_us,
            setting.slack,
            has_stretches=setting.has_stretches,
            held_bytes=held_bytes,
        )
        return None if found is None else _slots(groups, found)

    def _coarse(self) -> Iterator[Setting]:
        best = self._best
        for order in range(len(self._orders)):
            cutoff = self._most_us
            for _ in range(LEVELS):
                ways = itertools.product((False, True), (cutoff, 0.0), SLACKS)
                for has_stretches, path, slack in ways:
                    yield Setting(order, slack, cutoff, has_stretches, path)
                cutoff = min(cutoff, best.value_us) / STEP
                if cutoff <= best.bound_us:
                    break

    def _near(self) -> Iterator[Setting]:
        rng = self._rng
        while self._orders:
            order = rng.randrange(len(self._orders))
            cutoff, path, is_stretched = (
                self._anywhere_us(),
                self._anywhere_us(),
                rng.random() < 0.5,
            )
            found = Setting(order, rng.random(), cutoff, is_stretched, path)
            if self._found is not None and rng.random() < NEAR_SHARE:
                factors = [NEAR ** rng.uniform(-1, 1) for _ in range(2)]
                found = replace(
                    self._found,
                    cutoff_us=self._found.cutoff_us * factors[0],
                    path_us=self._found.path_us * factors[1],
                )
            yield found

    @property
    def _most_us(self) -> float:
        """A slot that is loaded with more is in no better plan."""
        return min(self._best.value_us, most_us(self._groups))

    def _anywhere_us(self) -> float:
        """Between what is known to be too low and too high, each power of two as likely."""
        most = self._most_us
        least = max(self._best.bound_us, most * STEP**-LEVELS)
        return most * (least / most) ** self._rng.random() if most > 0 else 0.0


def _slots(groups: Groups, found: Cut) -> list[int]:
    """A slot for every operator; an unlimited one as often as need be."""
    free = [
        itertools.repeat(kind.slots[0]) if kind.is_unlimited else iter(kind.slots)
        for kind in groups.kinds
    ]
    slots = [next(free[kind]) for kind in found.kinds]
    placed = [
        slots[stage] if stage >= 0 else groups.kinds[_unlimited(groups, group)].slots[0]
        for group, stage in enumerate(found.stage)
    ]
    return spread(groups, placed)


def _unlimited(groups: Groups, group: int) -> int:
    """The kind of unlimited slots where a group is fastest."""
    unlimited = (k for k, kind in enumerate(groups.kinds) if kind.is_unlimited)
    return min(unlimited, key=lambda k: float(groups.time_us[k, group]))


def paths_us(groups: Groups) -> FloatArray:
    """[group]: longest path through each with all on unlimited slots; infinite where none takes it,
    which lengthens no other's path."""
    unlimited = [k for k, kind in enumerate(groups.kinds) if kind.is_unlimited]
    if not unlimited:
        return np.full(groups.count, np.inf)
    time = groups.time_us[unlimited].min(axis=0)
    step = np.where(np.isfinite(time), time, 0.0).tolist()
    head, tail = [0.0] * groups.count, [0.0] * groups.count
    # groups are numbered topologically
    for a, b in groups.order:
        head[b] = max(head[b], head[a] + step[a])
    for a, b in reversed(groups.order):
        tail[a] = max(tail[a], tail[b] + step[b])
    return np.asarray(time + np.array(head) + np.array(tail))


def between(groups: Groups, chosen: Collection[int]) -> set[int]:
    """Chosen groups, and all that follow some of them and precede others: a convex set."""
    inside, behind = set(chosen), set(chosen)
    for a, b in groups.order:
        if a in behind:
            behind.add(b)
    before = set(chosen)
    for a, b in reversed(groups.order):
        if b in before:
            before.add(a)
    return inside | (behind & before)
