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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.assign.glue import is_memory_slack, room
from planner.solve.assign.instance import Groups
from planner.solve.assign.program import FALSE, TRUE, Program, fitted, fitted_sizes, negated
from planner.solve.assign.windows import speed

PRECISION = 2**-36
"""The unit of time, relative to the cutoff, for proofs."""
COARSE = 2**-18
"""And for plans: CP-SAT cuts and propagates far better with short coefficients. What is proved with
it loses a unit per operator and net."""
BELOW = 1e-6
"""Relative: by how much less work in all is worth finding."""


@dataclass(slots=True)
class FreeModel:
    """The program with the meaning of its columns."""

    groups: Groups
    cutoff_us: float
    unit_us: float
    program: Program
    slots: list[tuple[int, int]]
    """(number, kind) of each."""
    on: list[list[int]]
    """x[v][d], d a position in `slots`."""
    load: int
    is_part: bool = False
    """Only a part is free: amounts are rounded to the nearest unit."""

    def units(self, us: float) -> int:
        """A time in whole units: down, so that rows become weaker, where something is proved."""
        us = min(us, 2 * self.cutoff_us)  # as much too much, and within 64 bits
        return round(us / self.unit_us) if self.is_part else math.floor(us / self.unit_us)

    def read(self, values: Sequence[int]) -> list[int]:
        """The slot of each group."""
        return [
            next(
                slot
                for (slot, _), x in zip(self.slots, row, strict=True)
                if x != FALSE and values[x]
            )
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


def build_free(
    groups: Groups,
    cutoff_us: float,
    *,
    bound_us: float = 0.0,
    precision: float = PRECISION,
    fixed: Mapping[int, int] | None = None,
    allowed: Collection[int] = (),
    together_us: float | None = None,
) -> FreeModel | None:
    """The model of all assignments below a cutoff; None where a group fits nowhere.

    Args:
        bound_us: a lower bound that is known already.
        precision: the unit of time, relative to the cutoff.
        fixed: slots of groups that stay; the others may go to the `allowed` slots only. Amounts
            are rounded to the nearest unit then: nothing is proved of a part.
        together_us: only plans of less work in all (`all_work_us`) than this, and the least of it,
            in place of the least largest load.
    """
    slots = [(slot, k) for k, kind in enumerate(groups.kinds) for slot in kind.slots]
    program = Program()
    if fixed is None:
        on = _columns(program, groups, slots, cutoff_us)
    else:
        on = _restricted(program, groups, slots, fixed, allowed)
    if any(all(x == FALSE for x in row) for row in on):
        return None
    for row in on:
        program.exactly_one(x for x in row if x != FALSE)
    unit = cutoff_us * precision
    load = program.column(math.floor(bound_us / unit), math.floor(cutoff_us / unit))
    model = FreeModel(groups, cutoff_us, unit, program, slots, on, load, is_part=fixed is not None)
    crossing = _crossings(model, cutoff_us)
    for d, (_, k) in enumerate(model.slots):
        _load(model, d, k, crossing[d])
    if together_us is None:
        program.minimise([(1, model.load)])
    else:
        _together(model, crossing, together_us)
    return model


def all_work_us(groups: Groups, loads_us: Sequence[tuple[int, float]]) -> float:
    """Loads of slots, (kind, load), each times the speed of its kind: what crossings and slow
    kinds add to the work."""
    speeds = [speed(groups, kind) for kind in range(len(groups.kinds))]
    return math.fsum(speeds[kind] * us for kind, us in loads_us)


def _together(model: FreeModel, crossing: list[list[tuple[int, int]]], below_us: float) -> None:
    """minimise W >= Σ_d s_k·(load of d), W below what is known."""
    most = math.floor(below_us * (1 - BELOW) / model.unit_us)
    work = model.program.column(0, max(most, 0))
    speeds = [speed(model.groups, kind) for kind in range(len(model.groups.kinds))]
    terms = [
        (round(speeds[k] * amount), literal)
        for d, (_, k) in enumerate(model.slots)
        for amount, literal in (*_work(model, d), *crossing[d])
    ]
    model.program.row([*terms, (-1, work)], None, 0)
    model.program.minimise([(1, work)])


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


def _restricted(
    program: Program,
    groups: Groups,
    slots: Sequence[tuple[int, int]],
    fixed: Mapping[int, int],
    allowed: Collection[int],
) -> list[list[int]]:
    """x, constant where a group stays or may not go."""
    return [
        [
            (TRUE if slot == fixed[v] else FALSE)
            if v in fixed
            else program.boolean()
            if slot in allowed
            and np.isfinite(groups.time_us[k, v])
            and groups.size_bytes[k, v] <= groups.kinds[k].capacity_bytes
            else FALSE
            for slot, k in slots
        ]
        for v in range(groups.count)
    ]


def _work(model: FreeModel, d: int) -> list[tuple[int, int]]:
    """Terms of what a slot does."""
    time = model.groups.time_us[model.slots[d][1]]
    staying = math.fsum(time[v] for v, row in enumerate(model.on) if row[d] == TRUE)
    terms = [
        (model.units(float(time[v])), row[d])
        for v, row in enumerate(model.on)
        if row[d] not in (FALSE, TRUE) and time[v] > 0
    ]
    return [*terms, (model.units(staying), TRUE)]


def _load(model: FreeModel, d: int, k: int, paid: list[tuple[int, int]]) -> None:
    groups, program = model.groups, model.program
    program.row([*_work(model, d), *paid, (-1, model.load)], None, 0)
    if math.isfinite(groups.kinds[k].capacity_bytes) and not is_memory_slack(groups, k):
        sizes, capacity = fitted_sizes(groups, k)
        held = [(sizes[v], row[d]) for v, row in enumerate(model.on) if row[d] != FALSE]
        program.row(held, None, capacity)


def _crossings(model: FreeModel, cutoff_us: float) -> list[list[tuple[int, int]]]:
    """Terms of the nets cut at each slot; and what they may cost together."""
    groups, program = model.groups, model.program
    left = room(groups, cutoff_us)
    paid: list[list[tuple[int, int]]] = [[] for _ in model.slots]
    together: list[tuple[int, int]] = []
    for net in groups.nets:
        cost = model.units(net.cost_us)
        is_split = program.boolean()
        touched = []
        for d, (_, k) in enumerate(model.slots):
            here = {model.on[v][d] for v in (net.source, *net.targets)}
            if len(here) == 1:
                continue
            is_cut = TRUE if {TRUE, FALSE} <= here else program.boolean()
            touched.append(is_cut)
            program.implies(is_cut, is_split)
            for target in net.targets:
                a, b = model.on[net.source][d], model.on[target][d]
                program.clause(negated(a), b, is_cut)
                program.clause(a, negated(b), is_cut)
            if groups.kinds[k].pays:
                paid[d].append((cost, is_cut))
                together.append((math.floor(cost * left.speed[k]), is_cut))
        if touched:
            program.row([*((1, z) for z in touched), (-2, is_split)], 0, None)
    costs, most = fitted(
        [cost for cost, _ in together], math.ceil(left.crossing_us / model.unit_us)
    )
    literals = [literal for _, literal in together]
    program.row(zip(costs, literals, strict=True), None, most)
    return paid
