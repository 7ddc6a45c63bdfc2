"""Weights that stream for nothing stay: a search that stops within its gap leaves some in host
memory although there is room for them, as long as computing hides the fetch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from planner.ir.problem import Problem
from planner.ir.solution import Solution, Stage
from planner.place.variant import HOST
from planner.solve.check import check, priced, value

_STREAMED = f"@{HOST}"


def unswapped(problem: Problem, found: Solution) -> Solution:
    """The same plan with as many streaming groups resident as fit, smallest weights first; no
    objective gets worse. Judged by the checker."""
    if found.totals is None or not found.stages:
        return found
    sizes = {option.name: option.weight_size_bytes for option in problem.options}
    streams = [
        name
        for stage in found.stages
        for name in stage.chosen
        if name.endswith(_STREAMED) and name.removesuffix(_STREAMED) in sizes
    ]
    streams.sort(key=lambda name: sizes[name.removesuffix(_STREAMED)])
    best, low, high = found, 0, len(streams)
    while low < high:
        middle = (low + high + 1) // 2
        tried = _resident(problem, found, streams[:middle])
        if tried is None:
            high = middle - 1
        else:
            best, low = tried, middle
    return best


def _resident(problem: Problem, found: Solution, names: Sequence[str]) -> Solution | None:
    """With these resident; None where that breaks a limit or costs anything."""
    turned = set(names)
    plan = replace(
        found,
        chosen=_renamed(found.chosen, turned),
        stages=tuple(_stage(stage, turned) for stage in found.stages),
    )
    totals = priced(problem, plan)
    values = tuple(value(totals, objective) for objective in problem.objectives)
    if any(new > old for new, old in zip(values, found.objective, strict=True)):
        return None
    bound = tuple(min(b, v) for b, v in zip(found.bound, values, strict=False))
    gap = (values[0] - bound[0]) / values[0] if bound and values[0] > 0 else found.gap
    plan = replace(plan, totals=totals, objective=values, bound=bound, gap=gap)
    return None if check(problem, plan) else plan


def _stage(stage: Stage, turned: Collection[str]) -> Stage:
    return replace(stage, chosen=_renamed(stage.chosen, turned))


def _renamed(names: Sequence[str], turned: Collection[str]) -> tuple[str, ...]:
    return tuple(name.removesuffix(_STREAMED) if name in turned else name for name in names)
