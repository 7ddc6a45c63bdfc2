"""Any assignment by largest load, in CP-SAT: which slot, and which nets are cut where.

Sets    groups v, slots d (of kind k), nets n; cutoff T on the largest load
        x[v,d] = [v on d]; z[n,d] = [d holds some of n, not all]; s[n] = [n is cut at all]

    Σ_d x[v,d] = 1
    x[source,d] != x[target,d] -> z[n,d];  z[n,d] -> s[n];  Σ_d z[n,d] >= 2·s[n]
    Σ_v t_kv·x[v,d] + Σ_n c_n·z[n,d] <= L where d pays;  Σ_v size_kv·x[v,d] <= capacity_k
    Σ_n c_n·Σ_d s_k·z[n,d] <= room(T)                     what all loads together leave (`glue`)
    minimise L

Slots of a kind are interchangeable: the j-th of the groups with most work, those of one kind only
counted, stays off the slots above j.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from time import monotonic

import numpy as np

from planner.solve.assign.anneal import anneal
from planner.solve.assign.glue import glue, is_memory_slack, least_load_us, most_us, room
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial, merge, spread
from planner.solve.assign.linear import cut, slots_of
from planner.solve.assign.orders import orders
from planner.solve.assign.program import FALSE, NAME, Effort, Program, negated, search, settle

PRECISION = 2**-36
"""The unit of time, relative to the cutoff."""
ORDERS = 8
ANNEALING_SHARE = 0.3
"""Of the time that is left; the rest is for the proof."""
ABOVE = 2**-16
"""Relative: the program may find the incumbent again, so that its neighbourhoods start there."""
WALKS = 10
STEPS_PER_GROUP = 1_000


@dataclass(slots=True)
class FreeModel:
    """The program with the meaning of its columns."""

    groups: Groups
    unit_us: float
    program: Program
    slots: list[tuple[int, int]]
    """(number, kind) of each."""
    on: list[list[int]]
    """x[v][d], d a position in `slots`."""
    load: int

    def read(self, values: Sequence[int]) -> list[int]:
        """The slot of each group."""
        return [
            next(slot for (slot, _), x in zip(self.slots, row, strict=True) if x > 0 and values[x])
            for row in self.on
        ]

    def hint(self, plan: Sequence[int]) -> None:
        """Starts from a plan: slots of a kind renamed so that none is forbidden by symmetry."""
        number = {slot: d for d, (slot, _) in enumerate(self.slots)}
        free: dict[int, list[int]] = {}
        for d, (_, k) in reversed(list(enumerate(self.slots))):
            free.setdefault(k, []).append(d)
        renamed: dict[int, int] = {}
        for v in by_work(self.groups):
            slot = plan[v]
            if slot not in renamed:
                renamed[slot] = free[self.slots[number[slot]][1]].pop()
        self.program.hint(
            {
                x: int(d == renamed[slot])
                for slot, row in zip(plan, self.on, strict=True)
                for d, x in enumerate(row)
                if x != FALSE
            }
        )


def by_work(groups: Groups) -> list[int]:
    """Groups, those with most work first."""
    order = np.argsort(-groups.time_us.min(axis=0), kind="stable")
    return [int(v) for v in order]


def build_free(groups: Groups, cutoff_us: float) -> FreeModel | None:
    """The model of all assignments below a cutoff; None where a group fits nowhere."""
    slots = [(slot, k) for k, kind in enumerate(groups.kinds) for slot in kind.slots]
    program = Program()
    on = _columns(program, groups, slots, cutoff_us)
    if any(all(x == FALSE for x in row) for row in on):
        return None
    for row in on:
        program.exactly_one(x for x in row if x != FALSE)
    unit = cutoff_us * PRECISION
    load = program.column(0, math.floor(cutoff_us / unit))
    model = FreeModel(groups, unit, program, slots, on, load)
    crossing = _crossings(model, cutoff_us)
    for d, (_, k) in enumerate(slots):
        _load(model, d, k, crossing[d])
    program.minimise([(1, load)])
    return model


def _columns(
    program: Program, groups: Groups, slots: Sequence[tuple[int, int]], cutoff_us: float
) -> list[list[int]]:
    """x, without what is too slow, too large or symmetric."""
    rank = {v: j for j, v in enumerate(by_work(groups))}
    place = [
        [n for n, (_, other) in enumerate(slots[:d]) if other == k]
        for d, (_, k) in enumerate(slots)
    ]
    return [
        [
            program.boolean()
            if groups.time_us[k, v] < cutoff_us
            and groups.size_bytes[k, v] <= groups.kinds[k].capacity_bytes
            and len(place[d]) <= rank[v]
            else FALSE
            for d, (_, k) in enumerate(slots)
        ]
        for v in range(groups.count)
    ]


def _load(model: FreeModel, d: int, k: int, paid: list[tuple[int, int]]) -> None:
    groups, program = model.groups, model.program
    terms = [
        (math.floor(groups.time_us[k, v] / model.unit_us), row[d])
        for v, row in enumerate(model.on)
        if row[d] != FALSE and groups.time_us[k, v] > 0
    ]
    program.row([*terms, *paid, (-1, model.load)], None, 0)
    capacity = groups.kinds[k].capacity_bytes
    if math.isfinite(capacity) and not is_memory_slack(groups, k):
        sizes = groups.size_bytes[k]
        held = [(int(sizes[v]), row[d]) for v, row in enumerate(model.on) if row[d] != FALSE]
        program.row(held, None, math.floor(capacity))


def _crossings(model: FreeModel, cutoff_us: float) -> list[list[tuple[int, int]]]:
    """Terms of the nets cut at each slot; and what they may cost together."""
    groups, program = model.groups, model.program
    left = room(groups, cutoff_us)
    paid: list[list[tuple[int, int]]] = [[] for _ in model.slots]
    together: list[tuple[int, int]] = []
    for net in groups.nets:
        cost = math.floor(net.cost_us / model.unit_us)
        is_split = program.boolean()
        touched = []
        for d, (_, k) in enumerate(model.slots):
            is_cut = program.boolean()
            touched.append(is_cut)
            program.implies(is_cut, is_split)
            for target in net.targets:
                a, b = model.on[net.source][d], model.on[target][d]
                program.clause(negated(a), b, is_cut)
                program.clause(a, negated(b), is_cut)
            if groups.kinds[k].pays:
                paid[d].append((cost, is_cut))
                together.append((math.floor(cost * left.speed[k]), is_cut))
        program.row([*((1, z) for z in touched), (-2, is_split)], 0, None)
    program.row(together, None, math.ceil(left.crossing_us / model.unit_us))
    return paid


def solve_free(best: Incumbent) -> None:
    """Seeds, annealing, neighbourhoods and proof, until optimal or the time is over."""
    groups = initial(best.problem)
    best.raise_bound(least_load_us(groups), "load bound")
    rng = random.Random(best.seed)
    _seed(best, groups, rng)
    if math.isfinite(best.value_us) and not best.is_proved:
        _anneal(best, groups, rng)
    if best.is_proved or best.remaining_s <= 0:
        return
    _prove(best, groups)


def _seed(best: Incumbent, groups: Groups, rng: random.Random) -> None:
    """Chains of segments of linear orders of what no chain can tear apart."""
    chained = merge(groups, (), is_acyclic=True)
    for order in islice(orders(chained, rng), ORDERS):
        found = cut(chained, order, best.cutoff_us)
        if found is not None:
            best.offer(slots_of(chained, found), "linear orders")


def _anneal(best: Incumbent, groups: Groups, rng: random.Random) -> None:
    """Walks from the best plan, for a share of the time."""
    until = monotonic() + ANNEALING_SHARE * best.remaining_s
    for _ in range(WALKS):
        plan = [best.slots[members[0]] for members in groups.members] if best.slots else []
        found = anneal(
            groups, plan, STEPS_PER_GROUP * groups.count, rng, lambda: monotonic() > until
        )
        best.offer(spread(groups, found), "annealing")
        if best.is_proved or monotonic() > until:
            return


def _prove(best: Incumbent, groups: Groups) -> None:
    """CP-SAT below the incumbent, for the rest of the time."""
    cutoff = best.value_us * (1 + ABOVE) if math.isfinite(best.value_us) else most_us(groups)
    glued = glue(groups, cutoff, is_acyclic=False)
    model = build_free(glued, cutoff)
    if model is None:
        best.is_infeasible = math.isinf(best.value_us)
        best.raise_bound(cutoff, NAME)
        return

    if best.slots is not None:
        model.hint([best.slots[members[0]] for members in glued.members])

    def on_point(values: list[int], bound: int) -> None:
        best.offer(spread(glued, model.read(values)), NAME)
        best.raise_bound(bound * model.unit_us, NAME)

    effort = Effort(best.remaining_s, best.seed, best.workers, best.gap, linearization=2)
    settle(best, search(model.program, effort, on_point), cutoff, model.unit_us)
    best.rounding = PRECISION * (groups.count + len(groups.nets))
