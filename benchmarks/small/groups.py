"""Groups of a program as `infopt plan` makes them for one format: the solver's choice, or those of
the rules alone, of kernels that compile."""

from __future__ import annotations

from dataclasses import replace

from planner.fuse.build import Draft, drafted
from planner.fuse.candidates import Candidate, Space, explore
from planner.fuse.groups import Bucket, Form, pose
from planner.fuse.schedule import schedule
from planner.fuse.sound import Replaced
from planner.ir.problem import Limits, Objective
from planner.ir.solution import Solution
from planner.kernels.compile import Compile
from planner.kernels.estimate import H200, Rates
from planner.kernels.pack import numbers_for
from planner.ops.nest import Program
from planner.progress import Silent
from planner.solve.solve import solve
from planner.steps.fused.compiling import Answer, better, existing

_NAME = "model"


def solved(
    program: Program, number_format: str, compile_each: Compile | None = None, rates: Rates = H200
) -> Draft:
    """The launches of the best plan found within a minute, loops included."""
    return _drafted(explore(program), number_format, compile_each, rates)


def ruled(
    program: Program, number_format: str, compile_each: Compile | None = None, rates: Rates = H200
) -> Draft:
    """The launches of the rule-based grouping: nothing to choose but configurations."""
    space = explore(program, limit=0)
    launches = schedule(program, space.greedy)
    alone = tuple(Candidate(tuple(part.stage for part in parts)) for parts in launches)
    made = {name for one in alone for name in one.makes}
    held = replace(space, candidates=alone, optional=space.optional & made)
    return _drafted(held, number_format, compile_each, rates)


def _drafted(space: Space, number_format: str, compile_each: Compile | None, rates: Rates) -> Draft:
    numbers = numbers_for(space.program, number_format)
    bucket = Bucket(_NAME, 0, space, {number_format: numbers}, 0)
    form = Form(number_format, 0.0, 0, (rates.launch_us,))

    def answered(replaced: Replaced, earlier: Solution | None) -> Answer:
        objectives = (Objective.LATENCY,)
        groups = pose(
            [bucket], [form], [1.0], rates, Limits(), objectives, instead=replaced.instead
        )
        found = better(groups, solve(groups.problem, time_limit_s=60), earlier)
        parts = [choice.parts for choice in groups.chosen(found.chosen, _NAME)]
        return Answer(groups, found, {_NAME: drafted(space.program, numbers, parts)})

    return existing(answered, compile_each, rates, Silent()).answer.drafts[_NAME]
