"""The bound of one stage that runs everything: the linear relaxation of its exact model.

Streams, slots and peaks are rows there, one a position, where `rows` has a few sums: on a device
that is much too small for its weights this is worth up to a tenth. The solver only proposes
multipliers; the bound is computed from the model's own numbers (`relax.certified`).
"""

from __future__ import annotations

import math

import numpy as np

from planner.ir.problem import Objective, Problem
from planner.solve.formulation import Linear, Row, assemble
from planner.solve.lp import Method
from planner.solve.relax import Relaxation, relax
from planner.solve.stages.exact import build
from planner.solve.stages.model import ENDS
from planner.solve.stages.rules import aim

MOST_COLUMNS = 10_000
"""A few seconds of HiGHS."""


def columns_alone(problem: Problem, k: int) -> int:
    """About how many columns the model of one stage at a place has."""
    here = problem.places[k].name
    options = sum(option.place in (None, here) for option in problem.options)
    conversions = sum(change.place in (None, here) for change in problem.conversions)
    stores = len(problem.stores)
    amounts = len(problem.ops) * len(problem.shape_weights) * (1 + stores)
    return options * (1 + stores) + conversions + amounts


def bound_alone(
    problem: Problem, row: int, end: str, k: int, objective: Objective, limit_s: float
) -> float:
    """Of every plan that is one stage at one place; infinite where there is none."""
    m = build(problem, row, ENDS.index(end), (k,))
    target = aim(m, objective)
    size = np.array([column.upper for column in m.model.columns])
    rows = [
        Row(
            each.name,
            tuple(column for column, _ in each.terms),
            tuple(a * float(size[column]) for column, a in each.terms),
            each.rhs,
            each.is_equality,
        )
        for each in m.model.rows
    ]
    program = assemble(rows, len(size))
    costs = np.zeros(len(size))
    for column, a in target.terms.items():
        costs[column] = a * size[column]
    nothing = Relaxation(-math.inf, costs, np.zeros(len(rows)))
    linear = Linear(target.constant, costs)
    every = np.ones(len(size), dtype=np.bool_)
    return relax(program, linear, every, nothing, limit_s, Method.INTERIOR).bound
