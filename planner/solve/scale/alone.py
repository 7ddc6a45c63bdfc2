"""The bound of one stage that runs everything: the linear relaxation of its exact model.

Streams, slots and peaks are rows there, one a position, where `rows` has a few sums: on a device
that is much too small for its weights this is worth up to a tenth. The solver only proposes
multipliers; the bound is computed from the model's own numbers (`relax.certified`).
"""

from __future__ import annotations

import math

import numpy as np

from planner.ir.problem import Objective, Problem
from planner.solve.formulation import Linear, Program, Row, assemble
from planner.solve.relax import Relaxation, relax
from planner.solve.stages.exact import build
from planner.solve.stages.model import ENDS, StageModel
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
    program, linear = programmed(build(problem, row, ENDS.index(end), (k,)), objective)
    every = np.ones(len(linear.coefficients), dtype=np.bool_)
    return relax(program, linear, every, unbounded(program, linear), limit_s).bound


def programmed(m: StageModel, objective: Objective) -> tuple[Program, Linear]:
    """A model's rows and what it minimises, columns in units of their upper ends."""
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
    costs = np.zeros(len(size))
    for column, a in target.terms.items():
        costs[column] = a * size[column]
    return assemble(rows, len(size)), Linear(target.constant, costs)


def unbounded(program: Program, linear: Linear) -> Relaxation:
    """What is known of a program where time is short."""
    return Relaxation(-math.inf, linear.coefficients, np.zeros(len(program.rhs)))
