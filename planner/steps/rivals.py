"""What came second at each operator, whichever variant ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.compress.base import Format
from planner.ir.problem import Limits, Problem
from planner.ir.solution import Solution
from planner.solve.explain import RunnerUp, runner_ups
from planner.solve.solve import solve
from planner.steps.choose import Posed
from planner.units import format_duration

_EXACT_RIVALS = 3
"""Runner-ups found by solving the whole problem anew, slowest operators first; the rest are found
by changing one operator alone, and say so."""


def rivals_of_plan(problem: Problem, solution: Solution) -> dict[str, RunnerUp]:
    """Of the solver's own plan, by operator."""
    return runner_ups(problem, solution, exact=_EXACT_RIVALS)


def rivals_of_variant(
    posed: Posed, problem: Problem, formats: Mapping[str, Format], setting: int
) -> dict[str, RunnerUp]:
    """Of another variant that ships, by operator: each changed alone, under the same setting.

    The variant is a point of the same problem, not its optimum: a single change may be predicted
    to be faster, and says then why it did not ship.

    Args:
        problem: with the budget that held; its limits judge the changes.
        formats: operator -> format of what ships; native ones absent.
        setting: index of the variant's setting in the pricing.
    """
    name = next(name for name, index in posed.sessions.items() if index == setting)
    alone = _under(problem, name)
    own = [one for one in alone.options if _belongs(posed.formats[one.name], one.ops, formats)]
    restricted = _makeable(replace(alone, options=tuple(own), limits=Limits()))
    if not _is_whole(restricted):
        return {}
    found = runner_ups(alone, solve(restricted), exact=0)
    return {op: _explained(rival) for op, rival in found.items()}


def _belongs(
    taken: Mapping[str, Format], ops: tuple[str, ...], formats: Mapping[str, Format]
) -> bool:
    return all(taken.get(op) == formats.get(op) for op in ops)


def _makeable(problem: Problem) -> Problem:
    """Without what reads a form that nobody makes any more: an operator that kept its own format
    among compressed ones is an option, too, and its neighbours are gone."""
    while True:
        steps = problem.conversions
        made = {*problem.given, *(state for one in problem.options for state in one.makes)}
        made.update(step.target for step in steps)
        options = tuple(one for one in problem.options if made.issuperset(one.needs))
        conversions = tuple(step for step in steps if step.source in made)
        if len(options) + len(conversions) == len(problem.options) + len(steps):
            return problem
        problem = replace(problem, options=options, conversions=conversions)


def _is_whole(problem: Problem) -> bool:
    """Whether every operator has an option left, and every result its maker."""
    made = {*problem.given, *(state for one in problem.options for state in one.makes)}
    made.update(step.target for step in problem.conversions)
    return made.issuperset(problem.wanted) and {
        op for one in problem.options for op in one.ops
    }.issuperset(problem.ops)


def _under(problem: Problem, setting: str) -> Problem:
    """The problem under one of its settings."""
    row = [one.name for one in problem.settings].index(setting)
    return replace(
        problem,
        settings=(problem.settings[row],),
        options=tuple(replace(one, latency=(one.latency[row],)) for one in problem.options),
        conversions=tuple(replace(one, latency=(one.latency[row],)) for one in problem.conversions),
    )


def _explained(rival: RunnerUp) -> RunnerUp:
    if rival.delta_us is None or rival.delta_us >= 0 or rival.reason.startswith("breaks"):
        return rival
    gain = format_duration(-rival.delta_us)
    reason = f"predicted {gain} faster if changed alone; measured as a whole, what ships was better"
    return replace(rival, reason=reason)
