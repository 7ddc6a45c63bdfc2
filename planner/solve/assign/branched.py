"""A lower bound on the largest load of a chain by branching: which groups a boundary holds.

Prices mix chains: half of one whose boundary is cheap and early and half of one whose boundary is
cheap and late fill all slots alike, though no chain does. A group that nearly all others precede or
follow, the sum behind many branches for instance, tells such chains apart: if it lies before a
boundary, so does all that precedes it, else all that follows it lies behind. In each half there is
less between the two, and prices say more (`narrowed`). The half that bounds least is halved next
(best first), for all orders of the kinds together; where no group tells much, the rest is listed
(`ordered`) or left to CP-SAT (`within`).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from planner.solve.assign.ideals import TooManyError
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.linear import Cut, cut, slots_of
from planner.solve.assign.narrowed import Narrowed
from planner.solve.assign.ordered import best_ordered
from planner.solve.assign.within import WORK, search_within
from planner.solve.pace import Pace

EVALUATIONS = 6
"""Prices that are tried in each half, beginning with those of the whole."""
PATIENCE = 3
"""Searches by CP-SAT in a row that say nothing before branching ends."""
FEW_FREE = 800
"""Groups that are free at a boundary, all boundaries together, up to which chains are listed."""
TELLING = 0.85
"""Squares of what is left of a boundary's work in both halves, relative to the whole's, up to which
a group is worth branching on."""


@dataclass(order=True, slots=True)
class Part:
    """Some chains of one order of kinds, below a cutoff."""

    bound_us: float
    number: int
    narrowed: Narrowed = field(compare=False)
    searched: int = field(default=0, compare=False)
    """How often CP-SAT was asked."""
    is_settled: bool = field(default=False, compare=False)
    """Its best chain was found: the bound is that one's value, but for rounding."""


def raise_by_branching(best: Incumbent, wholes: Iterable[Narrowed], until: float) -> bool:
    """Raises the bound as far as the time suffices, or until nothing can be said of the part that
    bounds least; offers chains that cost least on the way.

    Args:
        wholes: all orders of the kinds, each with its bound, below a cutoff that is not below the
            best plan's.

    Returns: whether all parts above the bound were settled: it is the cutoff then.
    """
    is_over, numbers, vain = Pace(until), itertools.count(), 0
    queue = [Part(whole.bound_us, next(numbers), whole) for whole in wholes]
    heapq.heapify(queue)
    while queue and not best.is_proved:
        part = heapq.heappop(queue)
        best.raise_bound(min(part.bound_us, best.cutoff_us), "branching")
        if part.is_settled or part.bound_us >= best.cutoff_us or best.is_proved:
            return True
        if is_over():
            return False
        left = _halved(best, part, is_over)
        if left is None and vain < PATIENCE:
            left = _searched(best, part, is_over)
            vain = vain + 1 if left and _is_vain(part, left[0]) else 0
        if left is None:
            return False
        for each in left:
            if each.bound_us < best.cutoff_us:
                each.number = next(numbers)
                heapq.heappush(queue, each)
    if not best.is_proved:
        best.raise_bound(best.cutoff_us, "branching")
    return True


def _is_vain(part: Part, left: Part) -> bool:
    """Whether a search said nothing."""
    return not left.is_settled and left.bound_us <= part.bound_us


def _halved(best: Incumbent, part: Part, is_over: Pace) -> list[Part] | None:
    """What is left of a part once it is halved, or listed; None: neither can be done."""
    narrowed = part.narrowed
    found = _telling(narrowed)
    if found is None:
        return _listed(best, narrowed, is_over)
    left = []
    for half in narrowed.split(*found):
        half.bound(is_over, EVALUATIONS)
        half.forget()
        offer_chain(best, half)
        if not half.is_refuted:
            left.append(Part(max(part.bound_us, half.bound_us), 0, half))
    return left


def _listed(best: Incumbent, narrowed: Narrowed, is_over: Pace) -> list[Part] | None:
    """Nothing is left once all chains are listed; None: they are too many."""
    if narrowed.is_pooled or narrowed.free > FEW_FREE:
        return None
    try:
        cut = best_ordered(narrowed, is_over)
    except TooManyError:
        return None
    if cut is not None:
        best.offer(slots_of(narrowed.known.groups, cut), "branching")
    return []


def _searched(best: Incumbent, part: Part, is_over: Pace) -> list[Part] | None:
    """What CP-SAT leaves of a part, for a little longer each time; None: it is too large."""
    narrowed = part.narrowed
    if narrowed.is_pooled or narrowed.free > FEW_FREE or is_over():
        return None
    work = WORK * (1 + part.searched)
    bound_us, is_solved = search_within(best, narrowed, is_over.until, work)
    bound_us = max(part.bound_us, bound_us)
    return [Part(bound_us, 0, narrowed, part.searched + 1, is_solved)]


def _telling(narrowed: Narrowed) -> tuple[int, int] | None:
    """The boundary and the group that halve what a boundary may hold best; None: none does."""
    known, total = narrowed.known, float(narrowed.known.work.sum())
    gain, found = 0.0, None
    bounds = zip(narrowed.slots.inside, narrowed.slots.outside, strict=True)
    for p, (inside, outside) in enumerate(bounds):
        low, high = float(narrowed.lows[p]), float(narrowed.highs[p])
        free = np.flatnonzero(~(inside | outside))
        if not len(free) or high <= low:
            continue
        before = np.maximum(high - np.maximum(known.before_us[free], low), 0.0)
        behind = np.maximum(np.minimum(total - known.behind_us[free], high) - low, 0.0)
        left = before**2 + behind**2
        best = int(left.argmin())
        width = (high - low) ** 2
        if left[best] <= TELLING * width and width - left[best] > gain:
            gain, found = width - float(left[best]), (p, int(free[best]))
    return found


def offer_chain(best: Incumbent, narrowed: Narrowed) -> None:
    """The chain that cost least at the last prices, if it may be better than the best plan."""
    if not narrowed.chain:
        return
    groups, behind = narrowed.known.groups, np.sum(~np.array(narrowed.chain), axis=0)
    if narrowed.is_pooled:
        # groups are numbered topologically
        found = cut(
            groups, np.argsort(behind, kind="stable").tolist(), best.cutoff_us, best.deadline
        )
    else:
        found = Cut(narrowed.load_us, tuple(behind.tolist()), tuple(narrowed.kinds))
    if found is not None and found.value_us < best.value_us:
        best.offer(slots_of(groups, found), "branching")
