"""All sets of groups as walks through a narrow graph: group after group goes in or stays out.

Along a linear order of the groups a set's nets are all inside, all outside or cut, and a walk needs
to remember that of the open nets only, which have members on both sides of its position. Graphs of
networks are long and narrow: five open nets are enough for a transformer, and then all 2^n sets are
walks through a few thousand states.

Source: path decompositions (N. G. Kinnersley, The vertex separation number of a graph equals its
path-width, Information Processing Letters 42, 1992); the order is greedy, fewest open nets next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.assign.instance import Groups
from planner.solve.data import FloatArray, IntArray
from planner.solve.pace import never

MOST_OPEN = 48
"""Open nets above which no walk is tried: each may be in three states, but one whose members so far
are on one side ties down all that opened since (a dense block of n has 2n states, not 3^n);"""
MOST_CELLS = 1_000_000
"""and states times open nets in all: a second of processor."""
_CUT = 2
"""State of an open net; 0 and 1: all its members so far are outside, inside."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What a group does to the states before it."""

    group: int
    to: IntArray
    """[0 outside or 1 inside, state before] -> state after."""
    paid_us: FloatArray
    """[0 outside or 1 inside, state before]: crossings that become certain."""

    @property
    def states(self) -> int:
        """Number of states before the group."""
        return int(self.to.shape[1])


def layers(groups: Groups, kind: int, is_over: Callable[[], bool] = never) -> list[Layer] | None:
    """All sets that a slot of a kind may hold, one layer a group; None where the graph is wide, or
    the time over, which is asked once a layer.

    The first layer has one state, and so has what follows the last.
    """
    nets = groups.nets if groups.kinds[kind].pays else ()
    members = [(net.source, *net.targets) for net in nets]
    order = _order(groups.count, members)
    if order is None:
        return None
    of = _of(groups.count, members)
    left = [len(net) for net in members]
    opened: list[int] = []
    states: list[tuple[int, ...]] = [()]
    found: list[Layer] = []
    cells = 0
    for v in order:
        for n in of[v]:
            left[n] -= 1
        kept = [n for n in dict.fromkeys([*opened, *of[v]]) if left[n]]
        after: dict[tuple[int, ...], int] = {}
        to = np.zeros((2, len(states)), np.int64)
        paid = np.zeros((2, len(states)))
        for s, state in enumerate(states):
            for side in (0, 1):
                now = dict(zip(opened, state, strict=True))
                cut = [n for n in of[v] if now.get(n, side) not in (side, _CUT)]
                now |= {n: now.get(n, side) for n in of[v]} | dict.fromkeys(cut, _CUT)
                to[side, s] = after.setdefault(tuple(now[n] for n in kept), len(after))
                paid[side, s] = sum(nets[n].cost_us for n in cut)
        found.append(Layer(v, to, paid))
        states, opened = list(after), kept
        cells += len(states) * len(opened)
        if cells > MOST_CELLS or is_over():
            return None
    return found


def _of(count: int, members: Sequence[Sequence[int]]) -> list[list[int]]:
    """The nets of each group."""
    of: list[list[int]] = [[] for _ in range(count)]
    for n, net in enumerate(members):
        for v in net:
            of[v].append(n)
    return of


def _order(count: int, members: Sequence[Sequence[int]]) -> list[int] | None:
    """The groups, next the one behind which fewest nets are open; None where these are too many."""
    of = _of(count, members)
    left = [len(net) for net in members]
    opened: set[int] = set()
    waiting = dict.fromkeys(range(count))
    order: list[int] = []
    while waiting:
        near = {v for n in opened for v in members[n] if v in waiting} or waiting
        v = min(near, key=lambda v: (sum(_change(n, left, opened) for n in of[v]), v))
        del waiting[v]
        order.append(v)
        for n in of[v]:
            left[n] -= 1
            (opened.add if left[n] else opened.discard)(n)
        if len(opened) > MOST_OPEN:
            return None
    return order


def _change(net: int, left: Sequence[int], opened: set[int]) -> int:
    """How many nets more are open once one more member of a net has been passed."""
    return int(left[net] > 1) - int(net in opened)
