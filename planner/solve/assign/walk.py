"""Better chains by moving one group at a time: simulated annealing between neighbouring slots.

The slots keep their order in the chain; a group may stand on any slot between the last of what it
follows and the first of what follows it. Energy and memory are those of `anneal`, which moves
groups to any slot; its temperatures would undo a good chain, these only let its boundaries wander.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from planner.solve.assign.anneal import State, fits, state_of
from planner.solve.assign.families import boundaries
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, spread
from planner.solve.assign.regions import plan_of
from planner.solve.pace import Cooling

POWER = 24
"""Of loads relative to the least largest one: sharper than for plans that are far from balance."""
WARM, COLD = (0.02, 0.1, 0.5), 1e-4
"""Temperatures at the start, each as likely as the others (which one is right differs from graph to
graph), and at the end, in units of energy per slot."""
HOPELESS = 2.0**20
"""Such a load is never moved to, and its power may be beyond floats."""
RENEWED = 2_000
"""Steps after which it is worked out anew which groups can move."""


STEPS_PER_GROUP = 100
"""Steps of a walk from the best plan."""


def walk_on(best: Incumbent, groups: Groups, rng: random.Random, until: float) -> bool:
    """A walk from the best plan, a chain of these groups: whether it finds a better one."""
    if best.slots is None or best.remaining_s <= 0:
        return False
    steps = STEPS_PER_GROUP * groups.count
    cooling = Cooling(until)
    plan = plan_of(groups, best)
    found = walk(groups, plan, steps, rng, cooling)
    best.is_clocked |= cooling.is_late
    # groups that tear the best plan leave what may be none
    return found != plan and best.offer(spread(groups, found), "walks")


def walk(
    groups: Groups,
    plan: Sequence[int],
    steps: int,
    rng: random.Random,
    cooling: Callable[[float], float],
) -> list[int]:
    """The chain with the least largest load on one walk of a number of steps from a chain; what is
    no chain, or fits its slots not, is returned as it is.

    Args:
        cooling: how far the walk is, of the part of its steps that is done. It cools faster where
            there is no time for all steps: a walk that ends while it is warm has found nothing.
    """
    state = state_of(groups, plan)
    if not _is_sound(groups, state, plan):
        return list(plan)
    ways = _Ways(groups, state, plan, rng)
    best, found = state.largest, list(state.slot_of)
    scale, load = max(best, 1e-300), state.load
    warm = rng.choice(WARM)
    mobile: list[int] = []
    cooled = 0.0
    for step in range(steps):
        if step % RENEWED == 0:
            progress = cooling(step / steps)
            if progress >= 1:
                break
            cooled = progress - step / steps
            mobile = ways.mobile()
            if not mobile:
                break
        group = mobile[int(rng.random() * len(mobile))]
        target = ways.target(group, rng)
        source = state.slot_of[group]
        if target == source or not fits(state, group, target):
            continue
        lost, won = state.deltas(group, target)
        a, b = load[source] / scale, load[target] / scale
        if max(a + lost / scale, b + won / scale) > HOPELESS:
            continue
        rise = (a + lost / scale) ** POWER - a**POWER + (b + won / scale) ** POWER - b**POWER
        if rise > 0 and rng.random() >= math.exp(
            -rise / (warm * (COLD / warm) ** (step / steps + cooled))
        ):
            continue
        state.move(group, target, (lost, won))
        if state.largest < best * (1 - 1e-12):
            best, found = state.largest, list(state.slot_of)
    return [state.slots[d][0] for d in found]


def _is_sound(groups: Groups, state: State, plan: Sequence[int]) -> bool:
    """Whether every edge goes forward and every slot can take what it has; moves keep both."""
    capacities = [groups.kinds[kind].capacity_bytes for _, kind in state.slots]
    fit = all(size <= most for size, most in zip(state.size, capacities, strict=True))
    return fit and math.isfinite(state.largest) and len(chain_of(groups, plan)) == len(set(plan))


class _Ways:
    """Where each group may stand, as ranks of slots in the chain; empty slots stand anywhere."""

    def __init__(
        self, groups: Groups, state: State, plan: Sequence[int], rng: random.Random
    ) -> None:
        self._before: list[list[int]] = [[] for _ in range(groups.count)]
        self._after: list[list[int]] = [[] for _ in range(groups.count)]
        for a, b in groups.order:
            self._before[b].append(a)
            self._after[a].append(b)
        position = {slot: d for d, (slot, _) in enumerate(state.slots)}
        self._at = [position[slot] for slot in chain_of(groups, plan)]
        for d in sorted(set(range(len(state.slots))) - set(self._at)):
            self._at.insert(rng.randint(0, len(self._at)), d)
        self._rank = [0] * len(self._at)
        for rank, d in enumerate(self._at):
            self._rank[d] = rank
        self._slot_of = state.slot_of

    def _span(self, group: int) -> tuple[int, int]:
        rank, slot_of = self._rank, self._slot_of
        low = max((rank[slot_of[a]] for a in self._before[group]), default=0)
        high = min((rank[slot_of[b]] for b in self._after[group]), default=len(rank) - 1)
        return low, high

    def mobile(self) -> list[int]:
        """Groups that may stand on more than one slot."""
        spans = (self._span(group) for group in range(len(self._before)))
        return [group for group, (low, high) in enumerate(spans) if low < high]

    def target(self, group: int, rng: random.Random) -> int:
        """A slot where a group may stand, mostly next to its own."""
        low, high = self._span(group)
        here = self._rank[self._slot_of[group]]
        luck = rng.random()
        rank = here + 1 if luck < 0.45 else here - 1 if luck < 0.9 else rng.randint(low, high)
        return self._at[min(max(rank, low), high)]


def chain_of(groups: Groups, plan: Sequence[int]) -> list[int]:
    """The slots that a chain uses, in its order."""
    held, found = 0, []
    for mask in boundaries(groups, plan)[1:]:
        new = mask & ~held
        found.append(plan[(new & -new).bit_length() - 1])
        held = mask
    return found
