"""Schedules in CP-SAT: who runs where, and when it is done, below a cutoff.

Sets    groups v, operators i (of group g(i)), bounded slots d, one unlimited kind c; cutoff T
        x[v,d], x[v,c]; z[i,d] = [something behind i, or i, is on d]; done[i], start[d], finish[d]
        e[i,d] = [i enters d], l[i,d] = [i leaves d]

    Σ_d x[v,d] + x[v,c] = 1
    x[g(i),d] -> z[i,d];  z[j,d] -> z[i,d],  z[j,d] and x[g(i),d] -> x[g(j),d]    for i -> j: convex
    x[g(j),d] and not x[g(i),d] -> e[i,d];  x[g(i),d] and not x[g(j),d] -> l[i,d]   for i -> j
    e[i,d] -> start[d] >= done[i]
    finish[d] >= start[d] + Σ_v t_dv·x[v,d] + Σ_i c_i·(e[i,d] + l[i,d])   where d pays
    x[g(i),d] -> done[i] >= finish[d];  done[j] >= done[i]                for i -> j
    x[g(j),c] -> done[j] >= done[i] + t_cj
    minimise max done

Times of operators lie between the longest path before them and what T leaves for the longest path
behind. With most groups fixed the same program searches a neighbourhood.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.assign.flow import Flow
from planner.solve.assign.instance import Groups
from planner.solve.assign.program import FALSE, TRUE, Program, fitted_sizes, negated, whole_units
from planner.solve.data import FloatArray

PRECISION = 2**-24
"""The unit of time, relative to the cutoff."""


@dataclass(slots=True)
class ScheduleModel:
    """The program with the meaning of its columns."""

    flow: Flow
    cutoff_us: float
    unit_us: float
    program: Program
    slots: list[tuple[int, int]]
    """(number, kind) of each: every bounded one, one of each unlimited kind."""
    on: list[list[int]]
    """x[v][d], d a position in `slots`."""
    done: list[int]
    start: dict[int, int]
    finish: dict[int, int]

    def units(self, time_us: float) -> int:
        """Rounded down."""
        return whole_units(time_us, self.unit_us, self.cutoff_us)

    def read(self, values: Sequence[int]) -> list[int]:
        """The slot of each group."""
        return [
            next(
                slot
                for (slot, _), x in zip(self.slots, row, strict=True)
                if x == TRUE or (x != FALSE and values[x])
            )
            for row in self.on
        ]

    def hint(self, plan: Sequence[int]) -> None:
        """Starts from a plan."""
        pairs = (
            (x, int(number == slot))
            for slot, row in zip(plan, self.on, strict=True)
            for (number, _), x in zip(self.slots, row, strict=True)
        )
        self.program.hint({x: value for x, value in pairs if x not in (TRUE, FALSE)})


def build_schedule(
    flow: Flow,
    cutoff_us: float,
    *,
    fixed: Mapping[int, int] | None = None,
    allowed: Collection[int] = (),
) -> ScheduleModel | None:
    """The model of all schedules below a finite cutoff; None where a group fits nowhere.

    Args:
        fixed: slots of groups that stay; the others may go to the `allowed` slots only.
    """
    groups = flow.groups
    slots = [(slot, k) for k in flow.bounded for slot in groups.kinds[k].slots]
    slots += [(groups.kinds[k].slots[0], k) for k in flow.unlimited]
    program = Program()
    on = [_choices(program, groups, slots, v, fixed or {}, allowed) for v in range(groups.count)]
    if any(all(x == FALSE for x in row) for row in on):
        return None
    for row in on:
        if TRUE not in row:
            program.exactly_one(x for x in row if x != FALSE)
    unit = cutoff_us * PRECISION
    heads, tails = _paths(flow, slots, on)
    if (heads + tails > cutoff_us).any():
        return None
    done = [
        program.column(math.floor(head / unit), math.ceil((cutoff_us - tail) / unit))
        for head, tail in zip(heads, tails, strict=True)
    ]
    model = ScheduleModel(flow, cutoff_us, unit, program, slots, on, done, {}, {})
    for d, (_, k) in enumerate(slots):
        if k in flow.unlimited:
            _wait(model, d, k)
        elif any(row[d] != FALSE for row in on):
            _run(model, d, k, cutoff_us)
    _end(model, cutoff_us)
    return model


def _choices(
    program: Program,
    groups: Groups,
    slots: Sequence[tuple[int, int]],
    v: int,
    fixed: Mapping[int, int],
    allowed: Collection[int],
) -> list[int]:
    """x[v], constant where a group stays or may not go."""
    if v in fixed:
        return [TRUE if slot == fixed[v] else FALSE for slot, _ in slots]
    return [
        program.boolean()
        if math.isfinite(groups.time_us[k, v])
        and groups.size_bytes[k, v] <= groups.kinds[k].capacity_bytes
        and (not allowed or slot in allowed)
        else FALSE
        for slot, k in slots
    ]


def _paths(
    flow: Flow, slots: Sequence[tuple[int, int]], on: Sequence[Sequence[int]]
) -> tuple[FloatArray, FloatArray]:
    """Longest paths until each operator is done and behind it, each step at its fastest.

    Operators of one bounded slot are done together: behind one of them, a consumer that may share
    its slot takes no time.
    """
    groups, count = flow.groups, len(flow.before)
    fastest = np.empty(count)
    shared: list[frozenset[int]] = [frozenset()] * count
    for members, row in zip(groups.members, on, strict=True):
        open_slots = [d for d, x in enumerate(row) if x != FALSE]
        bounded = frozenset(d for d in open_slots if slots[d][1] in flow.bounded)
        kinds = sorted({slots[d][1] for d in open_slots})
        for op in members:
            fastest[op] = flow.op_time_us[kinds, op].min()
            shared[op] = bounded
    heads, tails = fastest.copy(), np.zeros(count)
    # operators are numbered in topological order
    for op in range(count):
        for other in flow.before[op]:
            heads[op] = max(heads[op], heads[other] + fastest[op])
    for op in reversed(range(count)):
        for other in flow.before[op]:
            step = 0.0 if shared[op] & shared[other] else fastest[op]
            tails[other] = max(tails[other], tails[op] + step)
    return heads, tails


def _wait(model: ScheduleModel, d: int, kind: int) -> None:
    """An unlimited slot: operators wait for their producers only. All of its kind count as one."""
    flow, program = model.flow, model.program
    _hold(model, d, kind, len(flow.groups.kinds[kind].slots))
    for v, members in enumerate(flow.groups.members):
        here = model.on[v][d]
        if here == FALSE:
            continue
        for op in members:
            time = model.units(float(flow.op_time_us[kind, op]))
            program.row([(1, model.done[op])], time, None, [here])
            for other in flow.before[op]:
                terms = [(1, model.done[op]), (-1, model.done[other])]
                program.row(terms, time, None, [here])


def _run(model: ScheduleModel, d: int, kind: int, cutoff_us: float) -> None:
    """A bounded slot: start, load, finish; memory; convexity."""
    flow, program = model.flow, model.program
    groups = flow.groups
    most = math.ceil(cutoff_us / model.unit_us)
    start, finish = program.column(0, most), program.column(0, most)
    model.start[d], model.finish[d] = start, finish
    load = [
        (model.units(float(groups.time_us[kind, v])), row[d])
        for v, row in enumerate(model.on)
        if row[d] != FALSE
    ]
    load += _crossings(model, d, pays=groups.kinds[kind].pays)
    program.row([(1, finish), (-1, start), *((-a, x) for a, x in load)], 0, None)
    for v, members in enumerate(groups.members):
        if model.on[v][d] != FALSE:
            for op in members:
                terms = [(1, model.done[op]), (-1, finish)]
                program.row(terms, 0, None, [model.on[v][d]])
    _hold(model, d, kind)
    _convex(model, d)


def _hold(model: ScheduleModel, d: int, kind: int, slots: int = 1) -> None:
    """The memory of a slot, or of several that count as one."""
    groups = model.flow.groups
    if math.isfinite(groups.kinds[kind].capacity_bytes):
        sizes, capacity = fitted_sizes(groups, kind, slots)
        held = [(sizes[v], row[d]) for v, row in enumerate(model.on) if row[d] != FALSE]
        model.program.row(held, None, capacity)


def _crossings(model: ScheduleModel, d: int, *, pays: bool) -> list[tuple[int, int]]:
    """Terms of what enters and leaves a slot; it starts when all that enters is done."""
    flow, program = model.flow, model.program
    terms: list[tuple[int, int]] = []
    for row, op in enumerate(flow.sources.tolist()):
        own = int(flow.source_group[row])
        here = model.on[own][d]
        targets = [model.on[v][d] for v in np.flatnonzero(flow.wants[row]).tolist()]
        targets = [x for x in targets if x != here]
        cost = model.units(float(flow.cost_us[row])) if pays else 0
        if any(x != FALSE for x in targets) and here != TRUE:
            enters = program.boolean()
            for x in targets:
                program.clause(enters, negated(x), here)
            program.row([(1, model.start[d]), (-1, model.done[op])], 0, None, [enters])
            terms.append((cost, enters))
        if cost and here != FALSE and any(x != TRUE for x in targets):
            leaves = program.boolean()
            for x in targets:
                program.clause(leaves, negated(here), x)
            terms.append((cost, leaves))
    return terms


def _convex(model: ScheduleModel, d: int) -> None:
    """No path of operators leaves the slot and comes back."""
    program = model.program
    here = [FALSE] * len(model.done)
    for v, members in enumerate(model.flow.groups.members):
        for op in members:
            here[op] = model.on[v][d]
    behind = [program.boolean() for _ in here]
    for op, x in enumerate(here):
        program.implies(x, behind[op])
    for a, b in model.flow.order:
        program.implies(behind[b], behind[a])
        program.clause(negated(behind[b]), negated(here[a]), here[b])


def _end(model: ScheduleModel, cutoff_us: float) -> None:
    """Results follow what they are made from; the last one ends the schedule."""
    flow, program = model.flow, model.program
    last = program.column(0, math.floor(cutoff_us / model.unit_us))
    for op, others in enumerate(flow.before):
        program.row([(1, last), (-1, model.done[op])], 0, None)
        for other in others:
            program.row([(1, model.done[op]), (-1, model.done[other])], 0, None)
    program.minimise([(1, last)])
