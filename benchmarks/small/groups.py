"""The solver's choice of groups for a program, as `infopt plan` makes it for one format."""

from __future__ import annotations

from planner.fuse.build import Draft, drafted
from planner.fuse.candidates import explore
from planner.fuse.groups import Bucket, Form, pose
from planner.ir.problem import Limits, Objective
from planner.kernels.estimate import H200, Rates
from planner.kernels.pack import numbers_for
from planner.ops.nest import Program
from planner.solve.solve import solve


def solved(program: Program, number_format: str, rates: Rates = H200) -> Draft:
    """The launches of the best plan found within a minute."""
    numbers = numbers_for(program, number_format)
    bucket = Bucket("model", 0, explore(program), {number_format: numbers}, 0)
    form = Form(number_format, 0.0, 0, (rates.launch_us,))
    groups = pose([bucket], [form], [1.0], rates, Limits(), (Objective.LATENCY,))
    found = solve(groups.problem, time_limit_s=60)
    chosen = groups.chosen(found.chosen, bucket.name)
    return drafted(program, numbers, [choice.parts for choice in chosen])
