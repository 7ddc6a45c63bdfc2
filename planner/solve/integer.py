"""Minimises a `Model` with CP-SAT, through its protobuf; what it proves holds for the model.

HiGHS is asked where CP-SAT crashes or contradicts itself (`trusted`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ortools.sat.python import cp_model_helper as cmh

from planner.solve.backend import Answer
from planner.solve.linear import LinearRow, Model
from planner.solve.stages.model import Sum
from planner.solve.trusted import solve_trusted


@dataclass(frozen=True, slots=True)
class Search:
    """How to search."""

    time_limit_s: float
    gap: float = 0.0
    seed: int = 0
    workers: int = 1
    work: float = math.inf
    """Deterministic seconds."""
    hint: Mapping[int, float] | None = None
    """Values of some columns."""
    on_plan: Callable[[list[float], float], None] | None = None
    """Called with each better point and the bound."""
    reached: float = math.inf
    """Objective of a point of the model that is known: whoever denies it is not believed."""


@dataclass(frozen=True, slots=True)
class Found:
    """How it ended: the best point, one value a column, and the proved bound."""

    answer: Answer
    values: list[float] | None
    bound: float
    solver: str = ""
    """Who answered."""


def _proto(model: Model) -> cmh.CpModelProto:
    proto = cmh.CpModelProto()
    for column in model.columns:
        proto.variables.add().domain.extend([0, column.steps])
    for row in model.rows:
        whole = model.integer(row)
        linear = proto.constraints.add().linear
        linear.vars.extend(whole.columns)
        linear.coeffs.extend(whole.coefficients)
        linear.domain.extend([whole.low, whole.high])
    return proto


def _values(model: Model, steps: Sequence[int]) -> list[float]:
    return [column.unit * step for column, step in zip(model.columns, steps, strict=True)]


def minimise(model: Model, objective: Sum, search: Search) -> Found:
    """The least value of objective over the model's points, as far as time allows."""
    proto = _proto(model)
    terms = tuple((column, a) for column, a in objective.terms.items() if a)
    factor = abs(terms[0][1]) if len(terms) == 1 else 1.0
    row = LinearRow("objective", tuple((column, a / factor) for column, a in terms), 0.0)
    whole = model.integer(row)
    scale = model.row_unit(row) * factor
    if whole.columns:
        proto.objective.vars.extend(whole.columns)
        proto.objective.coeffs.extend(whole.coefficients)
    if search.hint is not None:
        proto.solution_hint.vars.extend(list(search.hint))
        pairs = ((model.columns[column], value) for column, value in search.hint.items())
        proto.solution_hint.values.extend(
            [min(math.ceil(value / column.unit), column.steps) for column, value in pairs]
        )
    on_plan = search.on_plan

    def on_point(values: list[int], bound: float) -> None:
        if on_plan is not None:
            on_plan(_values(model, values), bound * scale + objective.constant)

    reached = (search.reached - objective.constant) / scale
    found = solve_trusted(_parameters(search), proto, on_point if on_plan else None, reached)
    if found.answer in (Answer.INFEASIBLE, Answer.FAILED):
        bound = math.inf if found.answer is Answer.INFEASIBLE else -math.inf
        return Found(found.answer, None, bound, found.solver)
    solution = found.values or []
    values = _values(model, solution) if solution or not model.columns else None
    bound = found.bound * scale if whole.columns else 0.0
    return Found(found.answer, values, objective.constant + max(bound, 0.0), found.solver)


def _parameters(search: Search) -> cmh.SatParameters:
    parameters = cmh.SatParameters()
    parameters.random_seed = search.seed
    parameters.num_workers = search.workers
    parameters.linearization_level = 2
    # Workers that exchange what they learn at fixed points of work: the same answer each run.
    parameters.interleave_search = search.workers > 1
    parameters.max_time_in_seconds = max(search.time_limit_s, 0.001)
    parameters.relative_gap_limit = search.gap
    if math.isfinite(search.work):
        parameters.max_deterministic_time = search.work
    return parameters
