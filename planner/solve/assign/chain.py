"""Contiguous assignment by largest load: devices in an order that every edge follows.

1. Slots filled along linear orders, and these orders cut optimally (`seed`): the first plans.
2. Groups that no better plan can tear apart are merged (`glue`), and ideals are kept only where the
   cutoff lets a slot end (`ideals.bands`).
3. Ideals few: the exact dynamic program over chains of ideals (`dynamic`). Else a walk (`walk`);
   where groups are few, CP-SAT over cumulative stages (`stages`); then bounds, and all ideals of
   each boundary where they are few, for every order of the kinds (`crossings`). Neighbourhoods
   (`chain_regions`) come first where plans are far from the bound. Else further walks, and the
   dynamic program over ideals near the best plan and prefixes of many linear orders, as long as
   that finds better plans; then neighbourhoods, and CP-SAT on the whole, within the windows that
   the cutoff leaves each group.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import islice
from time import monotonic

import numpy as np

from planner.solve.assign.chain_regions import improve_chain
from planner.solve.assign.crossings import raise_by_crossings
from planner.solve.assign.dynamic import best_chain, pairs
from planner.solve.assign.families import nearby, prefixes
from planner.solve.assign.glue import glue, least_load_us, most_us, room
from planner.solve.assign.ideals import TooManyError, bands, enumerate_ideals, tabulate
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial
from planner.solve.assign.linear import slots_of
from planner.solve.assign.orders import orders
from planner.solve.assign.rates import with_rates
from planner.solve.assign.regions import plan_of
from planner.solve.assign.seed import seed
from planner.solve.assign.stages import prove_by_stages
from planner.solve.assign.walk import walk_on

FEW_IDEALS = 150_000
"""More are not looked at: they would take seconds to list."""
MOST_CELLS = 60_000_000
"""Ideals times groups: what a table of them costs (float matrices of so many numbers)."""
FEW_PAIRS = 100_000_000
"""Up to here the dynamic program takes seconds on one core."""
FAMILY = 8_000
"""Ideals of one family of prefixes."""
CELLS_PER_S, TABLE_SHARE = 3e7, 0.3
"""Of such a table: what is made in a second of processor, and the share of the time for one."""
FAILURES = 3
"""Turns in a row that find nothing better before the search goes on elsewhere."""
NARROWER = 0.9
"""Where there were too many ideals, they are counted again once loads leave so much less room."""
BRANCHING_SHARE = 0.75
"""Of the time, for branching, each time that boundaries are looked at: it ends by itself where it
gains nothing."""
FIRST_SHARE, BOUND_SHARE, REGIONS_SHARE = 0.5, 0.5, 0.5
"""Shares of the time for boundaries, each time that ideals are too many and before CP-SAT, and for
neighbourhoods."""
WALK_SHARE = 0.4
"""Of the time that is left, for one walk at most."""
FAR = 0.15
"""Relative gap above which boundaries do not prove a plan: neighbourhoods are searched first. At a
twentieth, a plan 7 % above its bound that boundaries prove in 8 s was not proved in 30."""
FIRST_COMEBACKS, COMEBACKS = 2, 6
"""Walks of neighbourhoods that may come back in vain."""
FEW_CELLS, STAGES_SHARE = 400, 0.3
"""Groups times slots up to which CP-SAT is asked for the whole at once, and its share of the time:
50 nodes on three slots are proved in 10 s, where neither ideals nor boundaries are few."""


def solve_chain(best: Incumbent) -> None:
    """Searches and proves until the incumbent is optimal or the time is over."""
    groups = with_rates(initial(best.problem), best.remaining_s)
    if not np.isfinite(groups.time_us.min(axis=0)).all():
        best.is_infeasible = True
        return
    best.raise_bound(least_load_us(groups), "load bound")
    if best.slots is None:
        seed(best, groups)
    rng = random.Random(best.seed)
    failures, counted = 0, math.inf
    while not best.is_proved and best.remaining_s > 0:
        cutoff = min(best.cutoff_us, most_us(groups))
        glued = glue(groups, cutoff, is_acyclic=True)
        spare = room(glued, cutoff).crossing_us
        if spare <= NARROWER * counted:
            counted = spare
            if _exact(best, glued, cutoff):
                return
            walk_on(best, glued, rng, monotonic() + WALK_SHARE * best.remaining_s)
            if _first(best, glued, rng) or best.remaining_s <= 0:
                return
            glued = glue(glued, min(cutoff, best.cutoff_us), is_acyclic=True)
        is_better = walk_on(best, glued, rng, monotonic() + WALK_SHARE * best.remaining_s)
        is_better = _nearby(best, glued, best.cutoff_us, rng) or is_better
        is_better = is_better or _prefixes(best, glued, cutoff, rng)
        failures = 0 if is_better else failures + 1
        if failures == FAILURES:
            _last(best, glued, cutoff, rng)
            return


def _first(best: Incumbent, glued: Groups, rng: random.Random) -> bool:
    """Where ideals are too many: CP-SAT if groups are few, boundaries if they may prove the plan,
    neighbourhoods before if that is far away. Whether there is a proof."""
    cutoff = best.cutoff_us
    if glued.count * glued.slot_count <= FEW_CELLS and math.isfinite(cutoff):
        prove_by_stages(best, glue(glued, cutoff, is_acyclic=True), cutoff, STAGES_SHARE)
        if best.is_proved or best.is_interrupted:
            return True
        best.hit_time_limit, best.is_clocked = False, True
    if _bound(best, glued, FIRST_SHARE, FAR):
        return True
    if best.value_us - best.bound_us <= FAR * best.value_us:
        return False
    until = monotonic() + REGIONS_SHARE * best.remaining_s
    improve_chain(best, glued, rng, until, FIRST_COMEBACKS)
    best.is_clocked |= monotonic() >= until
    return _bound(best, glued, FIRST_SHARE)


def _last(best: Incumbent, glued: Groups, cutoff: float, rng: random.Random) -> None:
    """What is left where ideals are too many: a bound, neighbourhoods, CP-SAT."""
    _bound(best, glued, BOUND_SHARE)
    until = monotonic() + REGIONS_SHARE * best.remaining_s
    improve_chain(best, glued, rng, until, COMEBACKS)
    best.is_clocked |= monotonic() >= until
    if not best.is_proved:
        cutoff = min(cutoff, best.cutoff_us)
        prove_by_stages(best, glue(glued, cutoff, is_acyclic=True), cutoff)


def _bound(best: Incumbent, glued: Groups, share: float, far: float = math.inf) -> bool:
    """What boundaries cut at least, for a share of the time: whether that is a proof."""
    left_s, began = best.remaining_s, monotonic()
    raise_by_crossings(best, glued, began + share * left_s, far, began + BRANCHING_SHARE * left_s)
    best.is_clocked |= monotonic() >= began + min(share, BRANCHING_SHARE) * left_s
    return best.is_proved


def _exact(best: Incumbent, glued: Groups, cutoff: float) -> bool:
    """All ideals where a slot may end: whether they were few enough for a proof."""
    if not np.isfinite(glued.time_us.min(axis=0)).all():
        return _refuted(best, "merging")
    table_s = TABLE_SHARE * best.remaining_s
    cells = min(MOST_CELLS, CELLS_PER_S * table_s)
    most = min(FEW_IDEALS, int(cells) // max(glued.count, 1))
    try:
        ideals = enumerate_ideals(glued, most, bands(glued, cutoff), monotonic() + table_s)
        if pairs(glued, ideals, cutoff) > FEW_PAIRS:
            return False
        found = best_chain(glued, cutoff, ideals, best.deadline)
    except TooManyError:
        best.is_clocked |= cells < MOST_CELLS or best.remaining_s <= 0
        return False
    if found is not None:
        best.offer(slots_of(glued, found), "ideals")
    return _refuted(best, "ideals")


def _refuted(best: Incumbent, strategy: str) -> bool:
    """Nothing is below the cutoff."""
    best.is_infeasible = math.isinf(best.value_us)
    best.raise_bound(best.cutoff_us, strategy)
    return True


def _nearby(best: Incumbent, glued: Groups, cutoff: float, rng: random.Random) -> bool:
    """Chains of ideals close to those of the best plan: whether one is better."""
    if best.slots is None or not _has_time(best, glued):
        return False
    plan = plan_of(glued, best)
    return _chain(best, glued, cutoff, nearby(glued, plan, FAMILY // glued.slot_count, rng))


def _prefixes(best: Incumbent, glued: Groups, cutoff: float, rng: random.Random) -> bool:
    """Chains of prefixes of many linear orders: whether one is better."""
    if not _has_time(best, glued):
        return False
    within = bands(glued, cutoff)
    masks: dict[int, None] = {}
    for order in islice(orders(glued, random.Random(rng.random())), FAMILY):
        masks.update(dict.fromkeys(prefixes(glued, order, within)))
        if len(masks) > FAMILY or best.remaining_s <= 0:
            break
    return _chain(best, glued, cutoff, list(masks))


def _has_time(best: Incumbent, glued: Groups) -> bool:
    """Whether a family of ideals can be tabulated."""
    is_enough = FAMILY * glued.count < CELLS_PER_S * TABLE_SHARE * best.remaining_s
    best.is_clocked |= not is_enough
    return is_enough


def _chain(best: Incumbent, glued: Groups, cutoff: float, masks: Sequence[int]) -> bool:
    try:
        found = best_chain(glued, cutoff, tabulate(glued, masks), best.deadline)
    except TooManyError:
        return False
    return found is not None and best.offer(slots_of(glued, found), "families of ideals")
