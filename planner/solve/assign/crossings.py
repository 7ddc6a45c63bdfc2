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

from planner.solve.assign.branched import offer_chain, raise_by_branching
from planner.solve.assign.closure import nets_of
from planner.solve.assign.ideals import TooManyError
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups
from planner.solve.assign.known import Known
from planner.solve.assign.linear import slots_of
from planner.solve.assign.narrowed import EVALUATIONS, Narrowed
from planner.solve.assign.ordered import best_ordered
from planner.solve.assign.within import WORK, search_within
from planner.solve.pace import Pace

MOST_ORDERS = 64
"""Orders of kinds up to which each is looked at;"""
PAIR, TOGETHER = 2, 40
"""more of so many kinds are looked at together, for a bound, with so many prices."""
CLOSE = 1e-7
"""Relative distance of cutoffs at which an order of kinds is done."""
ROUNDS = 12
"""Cutoffs of one order of kinds, each with more work than the one before."""
FEW_FREE = 800
"""Groups that are free at a boundary, all boundaries together, up to which these are narrowed."""
NEAR = 0.01
"""Cutoffs are no farther from the bound, relative to it: boundaries would have too much room. Where
the plan is farther, branching comes first."""
STEP, LAST = 1 / 2, 1e-3
"""Part of the way from the bound to the best plan at which cutoffs lie, and how close both are at
last: a low cutoff is refuted fast, or the plans below it are better for all orders."""
TURNS = 1
"""Of narrowing,"""
SEARCHED = 250
"""where more groups than these are free: CP-SAT does not need it for fewer."""
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


def pooled(known: Known, counts: Sequence[int]) -> tuple[int, ...]:
    """All orders of two kinds at once: the one that can run all groups, or does most, in order, the
    other anywhere between."""
    first = max((0, 1), key=lambda k: (not known.barred[k].any(), known.speeds[k] * counts[k]))
    return (1 - first, *(kind for _ in range(counts[first]) for kind in (first, 1 - first)))


def are_few(counts: Sequence[int]) -> bool:
    """Whether there are at most `MOST_ORDERS` of them."""
    orders, total = 1, 0
    for count in counts:
        for n in range(1, count + 1):
            total += 1
            orders = orders * total // n
    return orders <= MOST_ORDERS


def raise_by_crossings(
    best: Incumbent,
    groups: Groups,
    until: float,
    far: float = np.inf,
    branching_until: float = -np.inf,
) -> None:
    """Raises the bound by the boundaries of every order of the kinds, the one that bounds least
    first, as far as the time suffices; finds plans where ideals are few.

    Args:
        far: relative gap above which the first bound of every order, and branching, are all that
            is looked for.
        branching_until: branching comes first until then, where the plan is not near the bound; the
            rest ends so much later.
    """
    counts = [len(kind.slots) for kind in groups.kinds]
    is_pooled = not are_few(counts)
    if groups.count < 2 or sum(counts) < 2 or (is_pooled and len(counts) != PAIR):
        return
    if not np.isfinite(best.cutoff_us):
        return
    known = Known(groups, nets_of(groups))
    wholes, is_over = list[Narrowed](), Pace(until)
    for kinds in [pooled(known, counts)] if is_pooled else sequences(counts):
        if is_over():
            return
        wholes.append(Narrowed(known, kinds, best.cutoff_us, is_pooled))
        wholes[-1].bound(is_over, TOGETHER if is_pooled else EVALUATIONS)
        wholes[-1].forget()
        offer_chain(best, wholes[-1])
    best.raise_bound(min(min(each.bound_us for each in wholes), best.cutoff_us), "boundaries")
    began = monotonic()
    if best.value_us - best.bound_us > NEAR * best.value_us and began < branching_until:
        raise_by_branching(best, wholes, branching_until)
        until = min(until + monotonic() - began, best.deadline)
    if is_pooled or best.value_us - best.bound_us > far * best.value_us:
        return
    # (bound, order of kinds, least cutoff that was not refuted when tried, cutoffs tried)
    queue = [
        (max(best.bound_us, min(each.bound_us, best.cutoff_us)), tuple(each.kinds), np.inf, 0)
        for each in wholes
    ]
    heapq.heapify(queue)
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
        return search_within(best, narrowed, until, work)
    if found is None:
        return cutoff_us, False
    best.offer(slots_of(known.groups, found), "boundaries")
    return found.value_us * EXACT, True
