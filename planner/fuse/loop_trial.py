"""Runs of equal launches as loops, tried on the device: answers first, then time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.errors import InfoptError
from planner.fuse.drafts import Draft
from planner.fuse.live import Array, Live, is_close
from planner.fuse.loops import refusal, with_all_loops, without_loops
from planner.fuse.roll import rolled_up, runs
from planner.kernels.compile import Compile
from planner.kernels.estimate import H200

RUNS = 20
"""Of a loop before it is kept, each over an arena without a number in it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the device made of the loops of a draft."""

    plan: Draft
    """With loops where they are kept, else with why they are not."""
    taken_us: float
    was_timed: bool = False


def tried(plan: Draft, best_us: float, gain: float, live: Live, compile_each: Compile) -> Trial:
    """Loops are kept where all their blocks are on the device at once, answers stay the same and
    time is gained.

    Args:
        best_us: what the draft takes.
        gain: at most this share of it is a gain.
    """
    plan = replace(plan, loops=(), remarks=())
    if next(runs(plan), None) is None:
        return Trial(plan, best_us)
    other = with_all_loops(plan, replace(H200, units=live.units))
    if not other.loops:
        return Trial(other, best_us)
    reason, taken_us = _looped(plan, other, live, compile_each)
    was_timed = math.isfinite(taken_us)
    if was_timed and taken_us >= best_us * gain:
        reason = f"{taken_us:.1f} us as a loop, {best_us:.1f} us as launches (measured)"
    if reason:
        return Trial(without_loops(other, reason), best_us, was_timed)
    return Trial(other, taken_us, was_timed)


def _looped(plan: Draft, other: Draft, live: Live, compile_each: Compile) -> tuple[str, float]:
    """(why loops cannot be, microseconds of the graph with them)."""
    made = rolled_up(other)
    compiled = compile_each(made.kernels)
    for item in made.kernels:
        one = compiled.get(item.name)
        reason = refusal(item, one, live.units) if item.steps > 1 or one is None else ""
        if reason:
            return reason, math.inf
    try:
        (wanted,) = live.answers(plan.kernels, plan.waiting, 1)
        with live.another(made, compiled) as looped:
            if not agree(wanted, looped.answers(made.kernels, made.waiting, RUNS)):
                return "as a loop they answered something else here", math.inf
            return "", looped.graph_us(made.kernels, made.waiting)
    except InfoptError as error:
        return f"as a loop they did not run here ({error.what})", math.inf


def agree(wanted: Mapping[str, Array], answers: Sequence[Mapping[str, Array]]) -> bool:
    """Whether answers differ from what is wanted by rounding alone, and from each other in nothing:
    where a block does not wait as it should, some runs are wrong and others are not."""
    first = answers[0]
    same = all(held[name].tobytes() == first[name].tobytes() for held in answers for name in first)
    return same and all(is_close(wanted[name], first[name]) for name in wanted)
