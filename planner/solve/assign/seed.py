"""The first plans of assignments by largest load: chains of segments of some linear orders."""

from __future__ import annotations

import random
from itertools import islice
from time import monotonic

from planner.solve.assign.blocks import cut_in_blocks
from planner.solve.assign.fill import fill
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups
from planner.solve.assign.linear import cut_s, slots_of
from planner.solve.assign.orders import orders
from planner.solve.pace import Pace

ORDERS, FEW_ORDERS, SHARE = 8, 3, 0.15
"""Linear orders that are looked at, of few groups and of many, and their share of the time."""
FIRST_SHARE = 0.5
"""Of the time that is left, for the first cut."""
MANY = 1_500
"""Groups that are many: a cut takes most of a second, and walks find more in that time."""
BLOCKS = 2_000
"""Groups of an order, above which it is cut between blocks."""


def seed(best: Incumbent, groups: Groups) -> None:
    """Fills slots along an order, in no time, then cuts some optimally, while there is time.

    Args:
        groups: of an acyclic order.
    """
    most = ORDERS if groups.count < MANY else FEW_ORDERS
    looked_at = list(islice(orders(groups, random.Random(best.seed)), most))
    for order in looked_at:
        found = fill(groups, order, Pace(best.deadline))
        if found is not None:
            best.offer(slots_of(groups, found), "filled slots")
            break
    is_over = Pace(monotonic() + SHARE * best.remaining_s)
    for number, order in enumerate(looked_at):
        is_late = is_over() if number else cut_s(groups, BLOCKS) > FIRST_SHARE * best.remaining_s
        if is_late:
            best.is_clocked = True
            return
        found = cut_in_blocks(groups, order, BLOCKS, best.cutoff_us, best.deadline)
        if found is not None:
            best.offer(slots_of(groups, found), "linear orders")
        if best.is_proved:
            return
