"""Better assignments by moving one group at a time: simulated annealing on loads.

Energy of a plan: Σ_d (load_d / T)^8 over its slots, T the least largest load so far: the largest
loads dominate, but a plan that only relieves the second largest is seen to be better too. Moves
that a slot cannot take (support, memory) are not made. Kirkpatrick et al., Science 1983.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.assign.instance import Groups

POWER = 8
WARM, COLD = 0.05, 0.0005
"""Temperatures at the start and at the end, in units of energy per slot."""


@dataclass(slots=True)
class State:
    """A plan with its loads, kept up to date move by move."""

    groups: Groups
    slot_of: list[int]
    """Position in `slots` of each group."""
    slots: list[tuple[int, int]]
    """(number, kind)"""
    load: list[float]
    size: list[float]
    inside: list[list[int]]
    """[net][slot]: members there, source included."""
    nets_of: list[list[int]]

    @property
    def largest(self) -> float:
        """The largest load."""
        return max(self.load)

    def deltas(self, group: int, target: int) -> tuple[float, float]:
        """How the loads of the slots left and joined change by a move, other slots apart."""
        groups = self.groups
        source = self.slot_of[group]
        left, joined = self.slots[source][1], self.slots[target][1]
        lost = -float(groups.time_us[left, group])
        won = float(groups.time_us[joined, group])
        for net in self.nets_of[group]:
            count = len(groups.nets[net].targets) + 1
            cost = groups.nets[net].cost_us
            here, there = self.inside[net][source], self.inside[net][target]
            if groups.kinds[left].pays:
                lost += cost * ((0 < here - 1 < count) - (0 < here < count))
            if groups.kinds[joined].pays:
                won += cost * ((0 < there + 1 < count) - (0 < there < count))
        return lost, won

    def move(self, group: int, target: int, change: tuple[float, float]) -> None:
        """Makes a move whose changes are known."""
        source = self.slot_of[group]
        self.load[source] += change[0]
        self.load[target] += change[1]
        for slot, sign in ((source, -1), (target, 1)):
            self.size[slot] += sign * float(self.groups.size_bytes[self.slots[slot][1], group])
        for net in self.nets_of[group]:
            self.inside[net][source] -= 1
            self.inside[net][target] += 1
        self.slot_of[group] = target


def state_of(groups: Groups, plan: Sequence[int]) -> State:
    """A plan's state; plan holds the slot number of each group."""
    slots = [(slot, k) for k, kind in enumerate(groups.kinds) for slot in kind.slots]
    position = {slot: d for d, (slot, _) in enumerate(slots)}
    nets_of: list[list[int]] = [[] for _ in range(groups.count)]
    for number, net in enumerate(groups.nets):
        for group in (net.source, *net.targets):
            nets_of[group].append(number)
    state = State(
        groups,
        [position[slot] for slot in plan],
        slots,
        [0.0] * len(slots),
        [0.0] * len(slots),
        [[0] * len(slots) for _ in groups.nets],
        nets_of,
    )
    _refresh(state)
    return state


def _refresh(state: State) -> None:
    """Sums everything up anew."""
    groups, count = state.groups, len(state.slots)
    state.load[:] = [0.0] * count
    state.size[:] = [0.0] * count
    for group, d in enumerate(state.slot_of):
        state.load[d] += float(groups.time_us[state.slots[d][1], group])
        state.size[d] += float(groups.size_bytes[state.slots[d][1], group])
    for net, inside in zip(groups.nets, state.inside, strict=True):
        members = (net.source, *net.targets)
        inside[:] = [0] * count
        for group in members:
            inside[state.slot_of[group]] += 1
        for d in range(count):
            if 0 < inside[d] < len(members) and groups.kinds[state.slots[d][1]].pays:
                state.load[d] += net.cost_us


def anneal(
    groups: Groups,
    plan: Sequence[int],
    steps: int,
    rng: random.Random,
    cooling: Callable[[float], float],
) -> list[int]:
    """The plan with the least largest load on one walk of a number of steps from a plan.

    Args:
        cooling: how far the walk is, of the part of its steps that is done.
    """
    state = state_of(groups, plan)
    best, found = state.largest, list(state.slot_of)
    scale = max(best, 1e-300)
    cooled = 0.0
    for step in range(steps):
        if step % 1024 == 0:
            progress = cooling(step / steps)
            if progress >= 1:
                break
            cooled = progress - step / steps
        temperature = WARM * (COLD / WARM) ** (step / steps + cooled)
        group, target = _proposal(state, rng)
        source = state.slot_of[group]
        if target == source or not fits(state, group, target):
            continue
        change = state.deltas(group, target)
        rise = sum(
            ((state.load[d] + delta) / scale) ** POWER - (state.load[d] / scale) ** POWER
            for d, delta in zip((source, target), change, strict=True)
        )
        if rise > 0 and rng.random() >= math.exp(-rise / temperature):
            continue
        state.move(group, target, change)
        if state.largest < best * (1 - 1e-12):
            best, found = state.largest, list(state.slot_of)
    return [state.slots[d][0] for d in found]


def _proposal(state: State, rng: random.Random) -> tuple[int, int]:
    """A random group, and mostly the slot of one of its neighbours."""
    group = rng.randrange(state.groups.count)
    nets = state.nets_of[group]
    if nets and rng.random() < 0.9:
        net = state.groups.nets[rng.choice(nets)]
        return group, state.slot_of[rng.choice((net.source, *net.targets))]
    return group, rng.randrange(len(state.slots))


def fits(state: State, group: int, target: int) -> bool:
    """Whether a slot can take a group."""
    kind = state.slots[target][1]
    size = state.size[target] + float(state.groups.size_bytes[kind, group])
    return size <= state.groups.kinds[kind].capacity_bytes and bool(
        np.isfinite(state.groups.time_us[kind, group])
    )
