"""First plans at once: slots filled one after another with the groups of a linear order.

Given a cutoff T on loads, a slot takes the longest segment of what is left of the order whose load
is below T and that fits its memory; of the kinds that have a slot left, the one that gets farthest
is taken. Unlimited slots take single groups that no other can, or segments where that is asked for.
The least T of a few that fills all groups is kept. An order of some groups is filled alike: the
others are on other slots. Segments are extended group by group, so a fill takes one walk through
the nets, where optimal cuts (`linear`) take the square.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

from planner.solve.assign.blocks import open_after
from planner.solve.assign.glue import least_load_us, most_us
from planner.solve.assign.instance import Groups
from planner.solve.assign.linear import Cut

GROWTH = 1.5
"""Factor from one cutoff to the next, until one fills all."""
HALVINGS = 4
"""Cutoffs between the last that was too low and the first that was not."""
AHEAD = 100
"""Groups that are looked at behind the last that fitted: crossings may end there."""

Segment = tuple[int, int, float]
"""(kind, end, load)"""


def fill(
    groups: Groups,
    order: Sequence[int],
    is_over: Callable[[], bool],
    kinds: Collection[int] | None = None,
) -> Cut | None:
    """The chain with the least cutoff that was found; None: none was. Where there is no time for
    that, slots are filled as far as memory allows: one walk finds a plan for a time limit of 0.

    Args:
        order: linear; of all groups, or of those that a `Filler` is to place.
        kinds: whose slots are filled; None: all.
    """
    filler = Filler(groups, order, kinds)
    low, most = least_load_us(groups), most_us(groups)
    high, found = max(low, most * 2**-40), None
    while found is None and high < most:
        if is_over():
            return filler.fill(most)
        low, high = high, min(high * GROWTH, most)
        found = filler.fill(high)
    for _ in range(HALVINGS):
        if found is None or is_over():
            break
        middle = math.sqrt(low * high)
        better = filler.fill(middle)
        low, high = (middle, high) if better is None else (low, middle)
        found = better or found
    return found


class Filler:
    """The numbers of one order, as lists: single numbers of arrays are slow to read."""

    def __init__(
        self, groups: Groups, order: Sequence[int], kinds: Collection[int] | None = None
    ) -> None:
        """O(groups + nets). What is not in the order stands on other slots than what is."""
        self._groups, self._order = groups, order
        self._kinds = range(len(groups.kinds)) if kinds is None else kinds
        self._time: list[list[float]] = groups.time_us.tolist()
        self._size: list[list[float]] = groups.size_bytes.tolist()
        self._capacity = [kind.capacity_bytes for kind in groups.kinds]
        self._pays = [kind.pays for kind in groups.kinds]
        self._cost = [net.cost_us for net in groups.nets]
        self._members = [1 + len(net.targets) for net in groups.nets]
        self._nets_of: list[list[int]] = [[] for _ in range(groups.count)]
        for number, net in enumerate(groups.nets):
            for group in (net.source, *net.targets):
                self._nets_of[group].append(number)
        self._open = open_after(groups, order).tolist()

    def fill(
        self,
        cutoff_us: float,
        slack: float = 0.0,
        *,
        has_stretches: bool = False,
        held_bytes: Sequence[float] | None = None,
    ) -> Cut | None:
        """The chain whose slots each take as much as they can below a cutoff.

        Args:
            cutoff_us: above every load.
            slack: the part of a segment that may be left to others so that few results are open
                behind it: slots that do not wait for each other run side by side in a schedule.
            has_stretches: unlimited slots take segments too, where they get farthest.
            held_bytes: by kind, what the unlimited slots of the kind hold besides.

        Returns: the stage of a group that is not in the order is -1.
        """
        groups, order = self._groups, self._order
        left = {k: len(groups.kinds[k].slots) for k in self._kinds}
        endless = groups.count if has_stretches else 0
        unlimited = {k for k in left if groups.kinds[k].is_unlimited}
        left |= dict.fromkeys(unlimited, endless)
        room = list(self._capacity)
        for k in unlimited:
            room[k] -= held_bytes[k] if held_bytes is not None else 0.0
        if min(room, default=0.0) < 0:
            return None
        stage, begin, value = [-1] * groups.count, 0, 0.0
        kinds: list[int] = []
        while begin < len(order):
            able = [k for k, slots in left.items() if slots > 0]
            found = self._longest(begin, able, cutoff_us, room) if able else []
            kind, end, load = self._loosest(found, slack) if found else self._single(begin, room)
            if kind < 0:
                return None
            if kind in unlimited:  # all its segments are on one slot
                room[kind] -= sum(self._size[kind][group] for group in order[begin:end])
            for place in range(begin, end):
                stage[order[place]] = len(kinds)
            kinds.append(kind)
            left[kind] -= 1
            begin, value = end, max(value, load)
        return Cut(value, tuple(stage), tuple(kinds))

    def _single(self, begin: int, room: Sequence[float]) -> Segment:
        """The next group alone on an unlimited slot; no kind (-1) where there is none."""
        kinds, group = self._groups.kinds, self._order[begin]
        able = [k for k in self._kinds if kinds[k].is_unlimited and self._size[k][group] <= room[k]]
        fastest = min(able, key=lambda k: self._time[k][group], default=-1)
        is_able = fastest >= 0 and math.isfinite(self._time[fastest][group])
        return (fastest if is_able else -1), begin + 1, 0.0

    def _loosest(self, found: Sequence[Segment], slack: float) -> Segment:
        """The longest segment, or one not much shorter behind which less is open."""
        last = found[-1][1]
        least = last - slack * (last - found[0][1])
        near = [segment for segment in found if segment[1] >= least]
        return min(near, key=lambda segment: (self._open[segment[1]], -segment[1]))

    def _longest(
        self, begin: int, able: Sequence[int], cutoff_us: float, room: Sequence[float]
    ) -> list[Segment]:
        """The segments from a place below the cutoff of the kind that gets farthest, by length."""
        order, cost, members = self._order, self._cost, self._members
        time, size = [0.0] * len(self._time), [0.0] * len(self._time)
        inside: dict[int, int] = {}
        found: dict[int, list[Segment]] = {k: [] for k in able}
        crossing, going, last = 0.0, list(able), begin
        for end in range(begin + 1, len(order) + 1):
            group = order[end - 1]
            for net in self._nets_of[group]:
                held = inside.get(net, 0) + 1
                inside[net] = held
                if held == 1 and members[net] > 1:
                    crossing += cost[net]
                if held == members[net] > 1:
                    crossing -= cost[net]
            for k in going:
                time[k] += self._time[k][group]
                size[k] += self._size[k][group]
            going = [k for k in going if time[k] < cutoff_us and size[k] <= room[k]]
            for k in going:
                load = time[k] + crossing * self._pays[k]
                if load < cutoff_us:
                    found[k].append((k, end, load))
                    last = end
            if not going or end > last + AHEAD:
                break
        return max(found.values(), key=lambda ends: ends[-1][1] if ends else begin, default=[])
