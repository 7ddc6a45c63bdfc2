"""Any assignment by largest load.

1. The best contiguous one for a share of the time (`chain`), so that a free one is never worse;
   then the slots of each kind filled on their own (`by_kind`), and annealing (`anneal`).
2. A bound from what single slots can hold (`packing`), where the graph is narrow.
3. CP-SAT on the whole (`free_model`), coarsely: better plans, and nearly the proof where that is
   easy; then finely, for the rest of it.
4. The bound of 2 again, below a better plan; of a wide graph from one slot against all others
   (`one_slot`).
5. Large neighbourhoods (`regions`): better plans still.
6. CP-SAT on the whole again, from there; where there is no time to begin it, more of 1 or 5.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from time import monotonic

from planner.ir.assignment import Contiguity
from planner.solve.assign.anneal import anneal
from planner.solve.assign.by_kind import fill_by_kind
from planner.solve.assign.chain import solve_chain
from planner.solve.assign.free_model import COARSE, PRECISION, build_free
from planner.solve.assign.glue import glue, least_load_us, most_us
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial, merge, spread
from planner.solve.assign.one_slot import raise_by_one_slot
from planner.solve.assign.orders import orders
from planner.solve.assign.packing import Packing, packing_of
from planner.solve.assign.program import Effort, search, settle
from planner.solve.assign.rates import with_rates
from planner.solve.assign.regions import improve, is_open, plan_of
from planner.solve.assign.walk import walk_on
from planner.solve.pace import Cooling, Pace
from planner.solve.progress import Progress
from planner.solve.trusted import NAME

CHAIN_SHARE, MOST_SHARE, LEAST_S = 0.25, 0.7, 2.5
"""Of the time, for contiguous plans, proved long before where that is easy: more of it, up to the
second, where that would be fewer seconds than this;"""
WALK_SHARE = 0.15
"""of what is left then, for a walk of chains: none has been made where ideals are few;"""
KINDS_SHARE, ORDERS = 0.1, 3
"""of what is left then, for slots that are filled kind by kind along so many orders;"""
ANNEALING_SHARE = 0.05
"""of what is left then;"""
PACKING_SHARE = 0.1
"""of what is left then, for the bound of packings: tenths of a second where it says most;"""
FEW_CELLS, WHOLE_SHARE = 400, 0.3
"""Groups times slots up to which the whole of a wide graph is searched for all that is left then
(each search begins anew), and its share else;"""
BOUND_SHARE = 0.3
"""of what is left then, for the bound again;"""
REGIONS_SHARE = 0.6
"""of the rest, for neighbourhoods; what remains is for the whole again."""
ABOVE = 2**-16
"""Relative: the program may find the incumbent again, so that its neighbourhoods start there."""
LAST_ANNEALING_SHARE = 0.5
"""Where the whole is not begun, of the time that is left: walks gain most where groups are many."""
BUILD_S_PER_CELL = 2e-4
"""What the model of the whole takes for a group and slot until CP-SAT searches it, in seconds
(3,000 groups on 17 slots: 2 s of processor to build it, then it is written, read and presolved):
with less time than that it is not begun."""
WALKS = 10
STEPS_PER_GROUP = 1_000


def solve_free(best: Incumbent) -> None:
    """Chains, annealing, neighbourhoods and proof, until optimal or the time is over."""
    groups = with_rates(initial(best.problem), best.remaining_s)
    best.raise_bound(least_load_us(groups), "load bound")
    rng = random.Random(best.seed)
    chain = _chain(best)
    if math.isfinite(best.value_us) and not best.is_proved:
        # On thousands of groups chains end below what annealing finds, which starts from there.
        chained = merge(groups, (), is_acyclic=True)
        if walk_on(best, chained, rng, monotonic() + WALK_SHARE * best.remaining_s):
            assert best.slots is not None
            chain.offer(best.slots, "walks")
        _by_kind(best, groups, chained)
        _anneal(best, groups, rng, ANNEALING_SHARE)
    if is_open(best):
        _prove(best, chain, groups, rng)


def _prove(best: Incumbent, chain: Incumbent, groups: Groups, rng: random.Random) -> None:
    """Bounds, the whole and neighbourhoods, until optimal or the time is over."""
    packing = _bound(best, groups, PACKING_SHARE)
    if not is_open(best):
        return
    is_few = packing is None and groups.count * groups.slot_count <= FEW_CELLS
    share = 1.0 if is_few else WHOLE_SHARE
    _search(best, groups, share * best.remaining_s, COARSE)
    _bound_again(best, groups, packing)
    if is_open(best) and _is_nearly_proved(best, groups):
        _search(best, groups, best.remaining_s, PRECISION)
    if is_open(best) and math.isfinite(best.value_us):
        known_us = best.value_us
        improve(best, groups, rng, monotonic() + REGIONS_SHARE * best.remaining_s)
        if packing is not None and best.value_us < known_us:
            _bound_again(best, groups, packing)
    if is_open(best):
        _search(best, groups, best.remaining_s, COARSE)
    if is_open(best):
        _search(best, groups, best.remaining_s, PRECISION)
    if is_open(best) and math.isfinite(best.value_us):
        _go_on(best, chain, groups, rng)


def _bound(
    best: Incumbent, groups: Groups, share: float, before: Packing | None = None
) -> Packing | None:
    """What single slots can hold, for a share of the time; None: too wide, no time or plan."""
    if not 0 < best.value_us < math.inf:
        return None
    cutoff, until = best.cutoff_us, monotonic() + share * best.remaining_s
    glued = glue(groups, cutoff, is_acyclic=False)
    is_same = before is not None and before.groups.members == glued.members
    if (packing := before if is_same else packing_of(glued, until)) is not None:
        packing.raise_bound(best, cutoff, until)
    best.is_clocked |= monotonic() > until
    return packing


def _bound_again(best: Incumbent, groups: Groups, packing: Packing | None) -> None:
    """Packings from the prices known; one slot of a wide graph that is not nearly proved."""
    if not is_open(best) or math.isinf(best.value_us):
        return
    if packing is not None:
        _bound(best, groups, BOUND_SHARE, packing)
        return
    if _is_nearly_proved(best, groups):
        return
    cutoff, until = best.cutoff_us, monotonic() + BOUND_SHARE * best.remaining_s
    raise_by_one_slot(best, glue(groups, cutoff, is_acyclic=False), cutoff, until)


def _is_nearly_proved(best: Incumbent, groups: Groups) -> bool:
    """Whether nothing but the coarse unit keeps the bound from the plan."""
    return best.bound_us >= best.value_us * (1 - 2 * COARSE * (groups.count + len(groups.nets)))


def _chain(best: Incumbent) -> Incumbent:
    """The best contiguous plan in a share of the time; what is proved of it holds of no other."""
    assert best.problem.assignment is not None
    contiguous = replace(best.problem.assignment, contiguity=Contiguity.CHAIN)
    left_s = best.remaining_s
    chain = Incumbent(
        replace(best.problem, assignment=contiguous),
        monotonic() + max(CHAIN_SHARE * left_s, min(MOST_SHARE * left_s, LEAST_S)),
        best.seed,
        best.workers,
        best.gap,
    )

    def on_progress(step: Progress) -> None:
        if chain.slots is not None and chain.value_us < best.value_us:
            best.offer(chain.slots, f"chains, {step.strategy}")

    chain.reporter = on_progress
    _search_chains(best, chain)
    return chain


def _search_chains(best: Incumbent, chain: Incumbent) -> None:
    """Contiguous plans until their deadline."""
    solve_chain(chain)
    best.is_clocked |= chain.is_clocked or not chain.is_proved
    best.is_interrupted |= chain.is_interrupted


def _go_on(best: Incumbent, chain: Incumbent, groups: Groups, rng: random.Random) -> None:
    """What time is left where the whole is too large to begin: contiguous plans as long as no other
    is better, annealing and neighbourhoods else."""
    if chain.value_us <= best.value_us and not chain.is_proved:
        chain.deadline, chain.seed = best.deadline, chain.seed + 1
        _search_chains(best, chain)
    if is_open(best):
        _anneal(best, groups, rng, LAST_ANNEALING_SHARE)
    if is_open(best):
        improve(best, groups, rng, best.deadline)


def _by_kind(best: Incumbent, groups: Groups, chained: Groups) -> None:
    """The slots of each kind filled along a few linear orders, for a share of the time."""
    is_over = Pace(monotonic() + KINDS_SHARE * best.remaining_s)
    for order in islice(orders(chained, random.Random(best.seed)), ORDERS):
        found = fill_by_kind(groups, _apart(groups, chained, order), is_over)
        if found is not None:
            best.offer(spread(groups, found), "slots filled by kind")
        if is_over():
            best.is_clocked = True
            return


def _apart(groups: Groups, merged: Groups, order: Sequence[int]) -> list[int]:
    """The groups in the order of what they were merged to."""
    group_of = {op: v for v, members in enumerate(groups.members) for op in members}
    return list(dict.fromkeys(group_of[op] for m in order for op in merged.members[m]))


def _anneal(best: Incumbent, groups: Groups, rng: random.Random, share: float) -> None:
    """Walks from the best plan, for a share of the time."""
    until = monotonic() + share * best.remaining_s
    for _ in range(WALKS):
        cooling = Cooling(until)
        found = anneal(
            groups,
            plan_of(groups, best),
            STEPS_PER_GROUP * groups.count,
            rng,
            cooling,
        )
        best.is_clocked |= cooling.is_late
        best.offer(spread(groups, found), "annealing")
        if best.is_proved or monotonic() > until:
            return


def _search(best: Incumbent, groups: Groups, limit_s: float, precision: float) -> None:
    """CP-SAT on the whole below the incumbent."""
    if min(limit_s, best.remaining_s) < BUILD_S_PER_CELL * groups.count * groups.slot_count:
        best.is_clocked = True
        return
    cutoff = best.value_us * (1 + ABOVE) if math.isfinite(best.value_us) else most_us(groups)
    glued = glue(groups, cutoff, is_acyclic=False)
    model = build_free(glued, cutoff, bound_us=best.bound_us, precision=precision)
    if model is None:
        best.is_infeasible = math.isinf(best.value_us)
        best.raise_bound(cutoff, NAME)
        return
    is_last = limit_s >= best.remaining_s
    if best.slots is not None:
        model.hint(plan_of(glued, best))

    def on_point(values: list[int], bound: int) -> None:
        best.offer(spread(glued, model.read(values)), NAME)
        best.raise_bound(bound * model.unit_us, NAME)

    seconds = min(limit_s, best.remaining_s)
    effort = Effort(seconds, best.seed, best.workers, best.gap, linearization=2)
    found = search(model.program, effort, on_point, reached=best.value_us / model.unit_us)
    settle(best, found, cutoff, model.unit_us)
    if not is_last and not best.is_proved:
        best.hit_time_limit = False
    if precision == PRECISION:
        best.rounding = PRECISION * (groups.count + len(groups.nets))
