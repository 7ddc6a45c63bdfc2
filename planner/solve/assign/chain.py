"""Contiguous assignment by largest load: devices in an order that every edge follows.

1. Linear orders cut optimally (`linear`): the first plans.
2. Groups that no better plan can tear apart are merged (`glue`).
3. Ideals few: the exact dynamic program over chains of ideals (`ideals`). Else CP-SAT over
   cumulative stages (`stages`), within the windows that the cutoff leaves each group.
"""

from __future__ import annotations

import math
import random

import numpy as np

from planner.solve.assign.glue import glue, least_load_us, most_us
from planner.solve.assign.ideals import TooManyError, best_chain
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial
from planner.solve.assign.linear import cut, slots_of
from planner.solve.assign.orders import orders
from planner.solve.assign.stages import prove_by_stages

FEW_IDEALS = 12_000
"""Up to here the dynamic program takes seconds on one core."""
ORDERS = 8
"""Linear orders that are cut for a first plan."""


def solve_chain(best: Incumbent) -> None:
    """Searches and proves until the incumbent is optimal or the time is over."""
    groups = initial(best.problem)
    if not np.isfinite(groups.time_us.min(axis=0)).all():
        best.is_infeasible = True
        return
    best.raise_bound(least_load_us(groups), "load bound")
    _seed(best, groups)
    if best.is_proved or best.remaining_s <= 0:
        return
    cutoff = min(best.cutoff_us, most_us(groups))
    glued = glue(groups, cutoff, is_acyclic=True)
    try:
        found = best_chain(glued, cutoff, FEW_IDEALS, best.deadline)
    except TooManyError:
        prove_by_stages(best, glued, cutoff)
        return
    if found is not None:
        best.offer(slots_of(glued, found), "ideals")
    if math.isinf(best.value_us):
        best.is_infeasible = True
    best.raise_bound(best.cutoff_us, "ideals")


def _seed(best: Incumbent, groups: Groups) -> None:
    """The best cut of some linear orders."""
    rng = random.Random(best.seed)
    for number, order in enumerate(orders(groups, rng)):
        found = cut(groups, order, best.cutoff_us)
        if found is not None:
            best.offer(slots_of(groups, found), "linear orders")
        if number + 1 == ORDERS or best.is_proved or best.remaining_s <= 0:
            return
