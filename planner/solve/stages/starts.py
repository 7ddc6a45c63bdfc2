"""Plans of one place to start from: everything at once for a short time, and one family after
another, as sequential planners decide.

What a sequential planner finds is thereby found, and improved: formats for time, for bytes or for
time within the memory, streams and groups, in every order. Families not yet decided are at their
default: the format of least error, every operator alone, nothing streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from time import monotonic

from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution
from planner.solve.stages.exact import Exact, search_exactly
from planner.solve.stages.families import (
    Decided,
    Family,
    Part,
    decided,
    kept,
    undecided,
    with_options,
)
from planner.solve.stages.neighbourhoods import CLOCK, LEAST_S

STEP_WORK, FIRST_WORK = 0.3, 0.6
"""Deterministic seconds of one step, and of a first plan; by the clock see `neighbourhoods`."""
STEP_GAP = 2e-3
"""Relative gap at which a step may stop."""
ON_ONE_PLACE = (Family.STREAM, Family.FORMAT, Family.GROUP)


@dataclass(frozen=True, slots=True)
class Step:
    """One decision."""

    family: Family
    keeps_memory: bool
    is_for_size: bool = False
    """Formats for the fewest bytes; otherwise for the least time."""


def first_plan(state: Exact, part: Problem, until: float) -> Solution | None:
    """A plan of one place that is certain: of operators alone, of groups where some must be."""
    single = with_options(part, (o for o in part.options if len(o.ops) == 1))
    is_covered = {op for option in single.options for op in option.ops} == set(part.ops)
    posed = Part(single if is_covered else part)
    plan = _solved(state, posed, until, state.gap, FIRST_WORK)
    if plan is not None:
        bound = state.bounds[0] if state.bounds else 0.0
        state.offer(plan, "one place", bound, 0)
    return plan


def one_after_another(state: Exact, part: Problem) -> Iterator[Solution | None]:
    """Plans of one place, one family decided after another, in every order that differs; None
    where an order finds none."""
    for steps in ways():
        if state.is_interrupted or state.remaining_s <= 0:
            return
        yield _in_steps(state, part, steps)


def ways() -> Iterator[tuple[Step, ...]]:
    """Every order; formats before streams for time, for bytes, or for time within the memory.

    Memory is kept from streams on: steps before them leave it to them.
    """
    for order in permutations(ON_ONE_PLACE):
        first = order.index(Family.STREAM)
        kinds = [(False, False)]
        if order.index(Family.FORMAT) < first:
            kinds += [(False, True), (True, False)]
        for is_tight, is_for_size in kinds:
            yield tuple(
                Step(family, number >= first or is_tight, is_for_size)
                if family is Family.FORMAT
                else Step(family, number >= first)
                for number, family in enumerate(order)
            )


def _in_steps(state: Exact, part: Problem, steps: tuple[Step, ...]) -> Solution | None:
    what, plan = undecided(part), None
    for number, step in enumerate(steps):
        posed = part if number + 1 == len(steps) else _posed(part, step)
        families = [family for family in ON_ONE_PLACE if family is not step.family]
        plan = _solved(state, kept(posed, what, families), state.deadline, STEP_GAP, STEP_WORK)
        if plan is None:
            return None
        what = _after(what, step.family, decided(part, plan))
    return plan


def _posed(part: Problem, step: Step) -> Problem:
    """What a step before the last one sees: time or bytes, memory where it is kept, no promise."""
    limits, devices = replace(part.limits, latency_us=None), part.devices
    if not step.keeps_memory:
        limits = replace(limits, memory_size_bytes=None)
        devices = tuple(replace(device, memory_size_bytes=None) for device in devices)
    aim = Objective.MEMORY if step.is_for_size else Objective.LATENCY
    return replace(part, objectives=(aim,), limits=limits, devices=devices)


def _after(before: Decided, family: Family, plan: Decided) -> Decided:
    """One family as a plan has it."""
    if family is Family.FORMAT:
        return replace(before, formats=plan.formats)
    if family is Family.GROUP:
        return replace(before, groups=plan.groups)
    return replace(before, streams=plan.streams)


def _solved(state: Exact, part: Part, until: float, gap: float, work: float) -> Solution | None:
    """The best certain plan of a part that is found in time."""
    end = min(until, monotonic() + CLOCK * work)
    if end - monotonic() < LEAST_S:
        state.is_clocked = True
        return None
    found = Exact(part.problem, end, gap, state.seed, 1, is_certain=True, work=work)
    search_exactly(found)
    state.is_interrupted |= found.is_interrupted
    state.is_clocked |= found.hit_time_limit
    for name in found.used:
        state.used.setdefault(f"{name} on parts")
    return found.best
