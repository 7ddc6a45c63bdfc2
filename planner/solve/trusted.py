"""CP-SAT, not taken at its word: what it answers is held against the model that it was given, and
HiGHS is asked in its place where it crashes or contradicts itself.

What is checked, in whole numbers: the point keeps every row; the bound is not above the point's own
objective; nothing is called infeasible of which a point was seen. A bound that is wrong without
contradicting anything known cannot be told from a right one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
from ortools import __version__
from ortools.sat.python import cp_model_helper as cmh

from planner.solve.backend import Answer
from planner.solve.cpsat import answer_of, run_solver
from planner.solve.highs import PRECISION
from planner.solve.highs import solve_rows as ask_highs
from planner.solve.whole import broken, objective, rows_of

NAME = f"CP-SAT {__version__}"
SECOND = "HiGHS"
TOLERANCE = 1e-6
"""Relative: by how much a bound may be above a value that is known, for rounding."""
Point = list[int]
OnPoint = Callable[[Point, float], None]
"""Called with each better point and the bound, in whole numbers of the objective."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """What may be believed of an answer."""

    answer: Answer
    values: Point | None
    """One a column. Of HiGHS: kept up to its tolerance."""
    bound: float
    """Of the whole-number objective."""
    solver: str
    complaint: str = ""
    """Why CP-SAT was not believed."""


class _Seen:
    """Hands every better point, unchecked, to the caller, and remembers the last."""

    def __init__(self, on_point: OnPoint | None) -> None:
        self._on_point = on_point
        self.last: Point | None = None

    def __call__(self, values: Point, bound: float) -> None:
        self.last = values
        if self._on_point is not None:
            self._on_point(values, bound)


def solve_trusted(
    parameters: cmh.SatParameters,
    model: cmh.CpModelProto,
    on_point: OnPoint | None = None,
    reached: float = math.inf,
) -> Trusted:
    """Minimises a model of linear rows, clauses and exactly-ones.

    Args:
        parameters: those of CP-SAT; HiGHS gets what is left of their time, and their gap.
        on_point: judges the points itself.
        reached: objective, in whole numbers, of a point of the model that is known.
    """
    until = monotonic() + parameters.max_time_in_seconds
    seen = _Seen(on_point)
    try:
        response, is_stopped = run_solver(parameters, model, seen)
        found = Trusted(
            answer_of(response.status, is_stopped),
            [int(value) for value in response.solution] or None,
            float(response.best_objective_bound),
            NAME,
        )
        complaint = _complaint(model, found, seen.last)
        complaint = complaint or _contradiction(found, reached)
    except TimeoutError:  # late, not wrong: what it showed is all there is
        shown = None if seen.last is None or broken(model, seen.last) else seen.last
        return Trusted(Answer.TIME, shown, -math.inf, NAME)
    except Exception as error:  # noqa: BLE001 - a solver may raise anything; the other is asked
        complaint = f"{type(error).__name__}: {error}"
    if not complaint:
        return found
    left_s = max(until - monotonic(), 0.0)
    second = _second(model, left_s, parameters.relative_gap_limit, complaint)
    return _with_point(model, second, seen.last)


def _with_point(model: cmh.CpModelProto, second: Trusted, seen: Point | None) -> Trusted:
    """HiGHS's answer with the last point that CP-SAT showed before it died, where that is all."""
    if seen is None or second.values is not None or broken(model, seen):
        return second
    if second.answer is Answer.INFEASIBLE:
        return replace(second, answer=Answer.FAILED, bound=-math.inf)
    return replace(second, answer=Answer.TIME, values=seen)


def _complaint(model: cmh.CpModelProto, found: Trusted, seen: Point | None) -> str:
    """What an answer says against itself; empty where nothing."""
    if found.answer is Answer.FAILED:
        return "no answer"
    if found.answer is Answer.INFEASIBLE:
        is_feasible = seen is not None and not broken(model, seen)
        return "infeasible, after a point was found" if is_feasible else ""
    if found.values is None:
        is_due = found.answer is Answer.OPTIMAL and len(model.variables) > 0
        return "optimal without a point" if is_due else ""
    name = broken(model, found.values)
    if name:
        return f"the point breaks {name}"
    value = objective(model, found.values)
    if found.bound > value + 0.5 + TOLERANCE * abs(value):
        return f"the bound {found.bound} lies above its own point, {value}"
    return ""


def _contradiction(found: Trusted, reached: float) -> str:
    """What an answer says against a point that is known; empty where nothing."""
    if math.isinf(reached):
        return ""
    if found.answer is Answer.INFEASIBLE:
        return "infeasible, although a point is known"
    slack = 1.0 + TOLERANCE * abs(reached)
    return f"the bound {found.bound} is above {reached}" if found.bound > reached + slack else ""


def _second(model: cmh.CpModelProto, limit_s: float, gap: float, complaint: str) -> Trusted:
    """HiGHS's answer; without one, nothing is claimed."""
    nothing = Trusted(Answer.FAILED, None, -math.inf, SECOND, complaint)
    if limit_s <= 0:
        return nothing
    rows = rows_of(model)
    costs = np.zeros(len(model.variables))
    for column, a in zip(model.objective.vars, model.objective.coeffs, strict=True):
        costs[column] += a
    ranges = np.array([(v.domain[0], v.domain[1]) for v in model.variables], dtype=np.float64)
    try:
        answer, point, bound = ask_highs(
            rows.terms, rows.low, rows.high, ranges, costs, limit_s, gap
        )
    except Exception:  # noqa: BLE001 - as above
        return nothing
    if answer in (Answer.FAILED, Answer.INFEASIBLE):
        proved = math.inf if answer is Answer.INFEASIBLE else -math.inf
        return Trusted(answer, None, proved, SECOND, complaint)
    values = None if point is None else [round(value) for value in point]
    return Trusted(answer, values, bound - PRECISION * abs(bound), SECOND, complaint)
