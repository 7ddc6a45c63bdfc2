"""Single-sample latency: decision diagrams over families of ideals, narrow ones first.

1. Everything on an unlimited slot; slots filled along a few linear orders (`schedule_fills`); then
   the prefixes of these orders as the family.
2. Where contiguity follows every edge: all ideals, where they are few, in restricted diagrams of
   growing width, exact once no label had to be dropped; relaxed ones in between for the bound.
   Where ideals are many, families are prefixes of ever more orders.
3. CP-SAT: neighbourhoods of the best plan, then the whole (`schedule_regions`); where there is no
   time to begin it, further fills.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from time import monotonic

import numpy as np

from planner.errors import UsageError
from planner.solve.assign.diagram import Diagram
from planner.solve.assign.flow import Flow, flow_of, torn
from planner.solve.assign.glue import within
from planner.solve.assign.ideals import Ideals, TooManyError, enumerate_ideals, tabulate
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial, read, regrouped, spread, together
from planner.solve.assign.orders import orders
from planner.solve.assign.regions import is_open
from planner.solve.assign.schedule_fills import ScheduleFills
from planner.solve.assign.schedule_regions import ABOVE, improve_schedule, search_schedule
from planner.solve.pace import Pace

FEW_IDEALS = 2_500
"""Up to here all ideals are one family."""
CELLS_PER_S = 3e5
"""Prefixes times groups of a narrow diagram in a second of processor (400 to 1,250 groups: 1e5 to
3.5e5): one that cannot end in time is not begun."""
FIRST_ORDERS = 3
NARROW = 3
"""Labels an ideal of the first diagrams."""
WIDER = 8
"""Factor from one diagram's width to the next."""
WIDEST = 20_000
FILLS_SHARE, FILLS = 0.3, 120
"""Of the time, for slots that are filled; and in how many ways."""
DIAGRAMS_SHARE = 0.3
"""Of the time, for diagrams of all ideals;"""
ORDERS_SHARE = 0.1
"""of what is left, for families of orders;"""
BUILD_S_PER_CELL = 4e-4
"""What the model of the whole takes for a group and slot until CP-SAT searches it, in seconds (250
groups on 13 slots: 0.4 s of processor to build it): with less time than that it is not begun."""
SMALL = 40
"""Groups up to which the whole is searched at once."""
REGIONS_SHARE = 0.4
"""of what is left then, for neighbourhoods; what remains is for the whole."""


def solve_schedule(best: Incumbent) -> None:
    """Searches and proves until the incumbent is optimal or the time is over.

    Raises:
        UsageError: several subgraphs share a device.
    """
    assignment = best.problem.assignment
    if assignment is not None and assignment.shared:
        raise UsageError("schedules with shared devices are not solved", fix="one slot a device")
    operators, groups = read(best.problem), initial(best.problem)
    if not np.isfinite(groups.time_us.min(axis=0)).all():
        return
    flow = flow_of(operators, groups)
    best.raise_bound(critical_path_us(operators), "critical path")
    # on unlimited slots a strongly connected component may be torn apart
    pieces = together(best.problem)
    is_whole = pieces.count == groups.count and not torn(flow)
    _alone(best, flow)
    fills = ScheduleFills(best, groups, list(_some_orders(best, groups, FIRST_ORDERS)))
    fills.run(FILLS, Pace(monotonic() + FILLS_SHARE * best.remaining_s))
    near = within(operators, best.cutoff_us)
    groups = regrouped(near, groups)
    if is_followed(operators) and np.isfinite(groups.time_us.min(axis=0)).all():
        _by_diagrams(best, flow_of(near, groups), groups, is_whole=is_whole)
    if not is_open(best):
        return
    # CP-SAT needs no ideals: what only unlimited slots tear apart stays apart
    if best.remaining_s > BUILD_S_PER_CELL * pieces.count * pieces.slot_count:
        near = within(operators, best.value_us * (1 + ABOVE))
        _by_program(best, flow_of(near, regrouped(near, pieces)))
    if is_open(best):
        best.is_clocked = True
        fills.run(None, Pace(best.deadline))


def _by_program(best: Incumbent, pieces: Flow) -> None:
    """Neighbourhoods for a share of the time, then the whole."""
    seconds = BUILD_S_PER_CELL * pieces.groups.count * pieces.groups.slot_count
    until = monotonic() + REGIONS_SHARE * best.remaining_s
    if pieces.groups.count > SMALL and monotonic() + seconds < until:
        improve_schedule(best, pieces, random.Random(best.seed), until)
    if is_open(best) and best.remaining_s > seconds:
        search_schedule(best, pieces)


def _by_diagrams(best: Incumbent, flow: Flow, groups: Groups, *, is_whole: bool) -> None:
    """Narrow families first, then all ideals or ever more orders; a share of the time."""
    until = monotonic() + DIAGRAMS_SHARE * best.remaining_s
    masks = [_prefixes(order) for order in _some_orders(best, groups, FIRST_ORDERS)]
    for family in masks:
        ends = until if math.isfinite(best.value_us) else best.deadline
        if monotonic() + groups.count**2 / CELLS_PER_S < ends:
            _restricted(best, flow, tabulate(groups, family), NARROW, ends)
    try:
        ideals = enumerate_ideals(groups, FEW_IDEALS)
    except TooManyError:
        _more_orders(best, flow, groups, monotonic() + ORDERS_SHARE * best.remaining_s)
        return
    _all(best, flow, ideals, until, is_whole=is_whole)


def is_followed(operators: Groups) -> bool:
    """Whether contiguity follows every edge: else an ideal may lack what its operators wait for
    (training, where contiguity is that of forward operators)."""
    order = set(operators.order)
    return all((net.source, target) in order for net in operators.nets for target in net.targets)


def critical_path_us(operators: Groups) -> float:
    """Longest path, every operator where it is fastest."""
    time = operators.time_us.min(axis=0)
    done = np.zeros(operators.count)
    start = np.zeros(operators.count)
    targets = {net.source: net.targets for net in operators.nets}
    for op in range(operators.count):
        done[op] = start[op] + time[op]
        for target in targets.get(op, ()):
            start[target] = max(start[target], done[op])
    return float(done.max(initial=0.0))


def _alone(best: Incumbent, flow: Flow) -> None:
    """Everything on one unlimited slot."""
    for kind in flow.unlimited:
        if np.isfinite(flow.op_time_us[kind]).all():
            slot = flow.groups.kinds[kind].slots[0]
            best.offer([slot] * flow.op_time_us.shape[1], "one slot")


def _some_orders(best: Incumbent, groups: Groups, count: int) -> Iterator[list[int]]:
    return islice(orders(groups, random.Random(best.seed)), count)


def _prefixes(order: Sequence[int]) -> list[int]:
    masks = [0]
    for group in order:
        masks.append(masks[-1] | 1 << group)
    return masks


def _restricted(
    best: Incumbent, flow: Flow, ideals: Ideals, width: int, until: float
) -> Diagram | None:
    """A diagram of schedules; None where the time is over."""
    if monotonic() >= until:
        return None
    diagram = Diagram(flow, ideals, best.cutoff_us, width, False, until)
    diagram.run()
    slots = diagram.slots() if diagram.is_complete else None
    if slots is not None:
        best.offer(spread(flow.groups, slots), "decision diagram")
    return diagram


def _all(best: Incumbent, flow: Flow, ideals: Ideals, until: float, *, is_whole: bool) -> None:
    """All ideals, wider and wider, until the bound meets the plan or nothing was dropped."""
    for width in _widths():
        if is_whole and not _relax(best, flow, ideals, width, until):
            return
        diagram = None if best.is_proved else _restricted(best, flow, ideals, width, until)
        if diagram is None or not diagram.is_complete:
            return
        if diagram.is_exact:
            _proved(best, diagram, is_whole=is_whole)
            return


def _widths() -> Iterable[int]:
    width = 1
    while width <= WIDEST:
        yield width
        width *= WIDER


def _relax(best: Incumbent, flow: Flow, ideals: Ideals, width: int, until: float) -> bool:
    """A bound from a diagram of at least all schedules; whether there was time for it."""
    if monotonic() >= until:
        return False
    diagram = Diagram(flow, ideals, best.cutoff_us, width, True, until)
    value = diagram.run()
    if not diagram.is_complete:
        return False
    if math.isinf(best.value_us) and math.isinf(value):
        best.is_infeasible = True
    best.raise_bound(min(value, best.cutoff_us), "relaxed decision diagram")
    return not best.is_infeasible


def _proved(best: Incumbent, diagram: Diagram, *, is_whole: bool) -> None:
    """What an exact diagram says: it knows nothing of the memory of unlimited slots, for which its
    best path may have been refused."""
    if not is_whole:
        return
    best.is_infeasible = math.isinf(best.value_us) and math.isinf(diagram.finish_us)
    best.raise_bound(min(best.cutoff_us, diagram.finish_us), "decision diagram")


def _more_orders(best: Incumbent, flow: Flow, groups: Groups, until: float) -> None:
    """Families of ever more prefixes, while there is time."""
    endless = orders(groups, random.Random(best.seed + 1))
    family: dict[int, None] = {}
    while groups.count < FEW_IDEALS and monotonic() < until and not best.is_proved:
        for mask in _prefixes(next(endless)):
            family.setdefault(mask)
        if len(family) > FEW_IDEALS:
            family = {}
            continue
        _restricted(best, flow, tabulate(groups, list(family)), NARROW, until)
