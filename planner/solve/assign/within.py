"""The best chain of one order of kinds by CP-SAT, within the boundaries that were narrowed.

Where a boundary may be more ideals than can be listed, few groups may still lie on either side of
it: the model of `stages` with the kinds of all stages given, and everything else fixed. What CP-SAT
proves of it holds for all plans below the cutoff with these kinds in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.linear import Cut, slots_of
from planner.solve.assign.narrowed import Narrowed
from planner.solve.assign.program import FALSE, TRUE, Effort, Program, search
from planner.solve.assign.stages import PRECISION, StageModel, add_rules
from planner.solve.backend import Answer
from planner.solve.trusted import NAME

WORK = 0.5
"""Deterministic seconds of the first search of some boundaries; others take more."""
ALL_ROWS = 2
"""CP-SAT's level of linearisation: with all rows in its relaxation it proves several times faster
here, because all slots are nearly full."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What plans below the cutoff cost at least; the cutoff where there are none."""

    bound_us: float
    is_solved: bool
    """The best of them was found."""
    is_interrupted: bool = False


def model_within(narrowed: Narrowed, precision: float) -> StageModel:
    """All chains of these kinds in order, within the boundaries."""
    groups, cutoff = narrowed.known.groups, narrowed.cutoff_us
    unit, program = cutoff * precision, Program()
    inside, outside = narrowed.slots.inside, narrowed.slots.outside

    def literal(boundary: int, group: int) -> int:
        if inside[boundary][group]:
            return FALSE
        return TRUE if outside[boundary][group] else program.boolean()

    ends = range(len(narrowed.kinds) - 1)
    reach = [[TRUE, *(literal(p, v) for p in ends), FALSE] for v in range(groups.count)]
    kinds = range(len(groups.kinds))
    kind = [[TRUE if k == here else FALSE for k in kinds] for here in narrowed.kinds]
    load = program.column(0, math.floor(cutoff / unit))
    model = StageModel(groups, cutoff, unit, program, reach, kind, load)
    add_rules(model)
    return model


def settle_within(narrowed: Narrowed, effort: Effort, on_cut: Callable[[Cut], None]) -> Settled:
    """Searches as far as the effort goes. Rows are rounded down: bounds hold, and a value is that
    of the plan as the caller prices it."""
    model = model_within(narrowed, PRECISION)

    def on_point(values: list[int], _: int) -> None:
        on_cut(model.read(values))

    found = search(model.program, effort, on_point)
    if found.answer is Answer.INFEASIBLE:
        return Settled(narrowed.cutoff_us, is_solved=False)
    if found.answer is Answer.FAILED:
        return Settled(narrowed.bound_us, is_solved=False)
    bound = min(max(narrowed.bound_us, found.bound * model.unit_us), narrowed.cutoff_us)
    is_interrupted = found.answer is Answer.INTERRUPTED
    return Settled(bound, found.answer is Answer.OPTIMAL, is_interrupted)


def rounding_of(narrowed: Narrowed) -> float:
    """Relative error of a value that was found optimal."""
    return PRECISION * (narrowed.known.groups.count + len(narrowed.known.groups.nets))


def search_within(
    best: Incumbent, narrowed: Narrowed, until: float, work: float
) -> tuple[float, bool]:
    """What plans below the cutoff cost at least, after some deterministic seconds, and whether the
    best of them was found; better ones are offered."""

    def on_cut(cut: Cut) -> None:
        best.offer(slots_of(narrowed.known.groups, cut), NAME)

    effort = Effort(max(until - monotonic(), 0.0), best.seed, 1, 0.0, work, ALL_ROWS)
    found = settle_within(narrowed, effort, on_cut)
    if found.is_interrupted:  # CP-SAT heard it in the caller's place, and others would search on
        raise KeyboardInterrupt
    if found.is_solved:
        best.rounding = max(best.rounding, rounding_of(narrowed))
    return found.bound_us, found.is_solved
