"""A lower bound on the largest load of a chain: its boundaries cut something, wherever they are.

Let slots 1..P be of kinds k_1..k_P in order, s_p the speed of k_p (`windows`), I_p the ideal done
after slot p, W all work. Slot p does at most s_p·T of it if its load is below T, so

    W - T·Σ_{q>p} s_q <= work(I_p) <= T·Σ_{q<=p} s_q                        for every boundary p

This says that some groups lie before boundary p in every such plan and some behind it; what is left
between them is little where graphs are deep. Over the chains that are left, the loads are bounded
at prices (`priced`). What a cutoff T refutes is a bound, and what it does not refute bounds plans
below T all the same; lower ones leave less between groups. This for every order of the kinds, of
which the one that bounds least is the bound.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from time import monotonic

import numpy as np

from planner.solve.assign.closure import nets_of
from planner.solve.assign.ideals import TooManyError
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups
from planner.solve.assign.linear import Cut, slots_of
from planner.solve.assign.narrowed import Known, Narrowed
from planner.solve.assign.ordered import best_ordered
from planner.solve.assign.program import Effort
from planner.solve.assign.within import ALL_ROWS, rounding_of, settle_within
from planner.solve.pace import Pace
from planner.solve.trusted import NAME

MOST_ORDERS = 64
"""Orders of kinds up to which all are looked at."""
CLOSE = 1e-7
"""Relative distance of cutoffs at which an order of kinds is done."""
ROUNDS = 12
"""Cutoffs of one order of kinds, each with more work than the one before."""
FEW_FREE = 800
"""Groups that are free at a boundary, all boundaries together, up to which these are narrowed."""
NEAR = 0.01
"""Cutoffs are no farther from the bound, relative to it: boundaries would have too much room."""
STEP, LAST = 1 / 2, 1e-3
"""Part of the way from the bound to the best plan at which cutoffs lie, and how close both are at
last: a low cutoff is refuted fast, or the plans below it are better for all orders."""
TURNS = 1
"""Of narrowing,"""
SEARCHED = 250
"""where more groups than these are free: CP-SAT does not need it for fewer."""
WORK = 0.5
"""Deterministic seconds of the first search by CP-SAT for an order of kinds; others take more."""
EXACT = 1 - 2**-40
"""Sums of floats in another order."""


def sequences(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All orders of kinds, each so many times."""
    if not any(counts):
        yield ()
        return
    for kind, count in enumerate(counts):
        if count:
            left = [n - (k == kind) for k, n in enumerate(counts)]
            for rest in sequences(left):
                yield kind, *rest


def are_few(counts: Sequence[int]) -> bool:
    """Whether there are at most `MOST_ORDERS` of them."""
    orders, total = 1, 0
    for count in counts:
        for n in range(1, count + 1):
            total += 1
            orders = orders * total // n
    return orders <= MOST_ORDERS


def raise_by_crossings(best: Incumbent, groups: Groups, until: float, far: float = np.inf) -> None:
    """Raises the bound by the boundaries of every order of the kinds, the one that bounds least
    first, as far as the time suffices; finds plans where ideals are few.

    Args:
        far: relative gap above which the first bound of every order is all that is looked for.
    """
    counts = [len(kind.slots) for kind in groups.kinds]
    if groups.count < 2 or sum(counts) < 2 or not are_few(counts):
        return
    known = Known(groups, nets_of(groups))
    if not np.isfinite(best.cutoff_us):
        return
    # (bound, order of kinds, least cutoff that was not refuted when tried, cutoffs tried)
    queue, is_over = [], Pace(until)
    for kinds in sequences(counts):
        if is_over():
            return
        first = Narrowed(known, kinds, best.cutoff_us)
        first.bound(is_over)
        bound = max(best.bound_us, min(first.bound_us, best.cutoff_us))
        queue.append((bound, kinds, np.inf, 0))
    heapq.heapify(queue)
    best.raise_bound(queue[0][0], "boundaries")
    if best.value_us - best.bound_us > far * best.value_us:
        return
    while monotonic() < until and not best.is_proved:
        bound, kinds, open_us, tried = queue[0]
        top = min(open_us, best.cutoff_us)
        if tried >= ROUNDS or (np.isfinite(open_us) and top - bound <= CLOSE * top):
            return
        is_last = top - bound <= LAST * top
        cutoff = top if is_last else bound + STEP * (top - bound)
        cutoff = min(cutoff, bound * (1 + NEAR)) if bound > 0 else cutoff
        least, is_solved = _attempt(best, known, kinds, cutoff, until, WORK * (1 + tried))
        raised = max(bound, min(least, cutoff))
        open_us = raised if is_solved else open_us if least >= cutoff else cutoff
        heapq.heapreplace(queue, (raised, kinds, open_us, tried + 1))
        best.raise_bound(queue[0][0], "boundaries")


def _attempt(
    best: Incumbent,
    known: Known,
    kinds: Sequence[int],
    cutoff_us: float,
    until: float,
    work: float = WORK,
) -> tuple[float, bool]:
    """What plans below a cutoff cost at least with these kinds in order, and whether that is the
    best of them."""

    is_over = Pace(until)
    narrowed = Narrowed(known, kinds, cutoff_us)
    narrowed.bound(is_over)
    if narrowed.is_refuted or narrowed.free > FEW_FREE:
        return narrowed.bound_us, False
    for _ in range(TURNS if narrowed.free > SEARCHED else 0):
        is_narrower = narrowed.narrow(is_over)
        narrowed.bound(is_over)
        if not is_narrower or is_over():
            break
    if narrowed.bound_us >= cutoff_us:
        return narrowed.bound_us, False
    try:
        found = best_ordered(narrowed, is_over)
    except TooManyError:
        if is_over():
            return narrowed.bound_us, False
        return _searched(best, narrowed, until, work)
    if found is None:
        return cutoff_us, False
    best.offer(slots_of(known.groups, found), "boundaries")
    return found.value_us * EXACT, True


def _searched(best: Incumbent, narrowed: Narrowed, until: float, work: float) -> tuple[float, bool]:
    """As `_attempt`, by CP-SAT."""

    def on_cut(cut: Cut) -> None:
        best.offer(slots_of(narrowed.known.groups, cut), NAME)

    effort = Effort(max(until - monotonic(), 0.0), best.seed, 1, 0.0, work, ALL_ROWS)
    found = settle_within(narrowed, effort, on_cut)
    if found.is_interrupted:  # CP-SAT heard it in the caller's place, and others would search on
        raise KeyboardInterrupt
    if found.is_solved:
        best.rounding = max(best.rounding, rounding_of(narrowed))
    return found.bound_us, found.is_solved
