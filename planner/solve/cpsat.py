"""CP-SAT: coefficients rounded down to integers, so that its proofs hold for the real ones.

A row Σ a·x <= b becomes Σ floor(a/u)·x <= floor(b/u) + 1: every plan that keeps the row keeps the
scaled one, and with at most n columns chosen a scaled-feasible plan exceeds b by at most (n +
1)·u. With u = 1e-9·b/n the loss is below 1e-9 of the limit. The same holds for the objective: the
scaled optimum times u is a lower bound of the real one, and less than n·u below it.

Why not `cp_model`? It is a layer of expressions over the same protobuf, which is built from arrays
here, and it imports pandas: half a second and 25 MB.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from ortools import __version__
from ortools.sat.python import cp_model_helper as cmh
from scipy.sparse import csr_matrix

from planner.solve.apart import OnPoint, solve_apart
from planner.solve.backend import Answer, Outcome, Request
from planner.solve.data import BoolArray, FloatArray, IntArray

PRECISION = 1e-9
"""Relative loss that scaling may cause, of each limit and of the objective."""
LARGEST = 2**60
"""No scaled sum exceeds this: CP-SAT works in 64 bits."""
ALONE = 60.0
"""Deterministic seconds that one worker gets before the others join."""
HINT_LEAST_S, HINT_COLUMN_S = 1.0, 1e-4
"""Seconds, and seconds a column, below which no hint is given: CP-SAT 9.15 was seen to abort the
process (`Check failed: heuristics.fixed_search != nullptr`) in short searches with hints."""
_FREE = -(2**62)


@dataclass(frozen=True, slots=True)
class Scaled:
    """Integer coefficients, with real = unit·integer up to rounding down."""

    coefficients: IntArray
    unit: float
    is_exact: bool


def _is_integral(values: FloatArray) -> bool:
    return bool((values == np.floor(values)).all()) and float(np.abs(values).sum()) < 2**52


def scale_objective(costs: FloatArray, scale: float, chosen_at_most: int) -> Scaled:
    """Costs >= 0 to integers: u = 1e-9·scale/n, coarser only where the sum would overflow."""
    if _is_integral(costs):
        return Scaled(costs.astype(np.int64), 1.0, True)
    reference = scale if scale > 0 else float(costs[costs > 0].min())
    unit = max(PRECISION * reference / max(chosen_at_most, 1), float(costs.sum()) / LARGEST)
    return Scaled(np.floor(costs / unit).astype(np.int64), unit, False)


def scale_row(values: FloatArray, rhs: float, chosen_at_most: int) -> tuple[IntArray, int]:
    """A row Σ values·x <= rhs to integers; real values must be >= 0."""
    if _is_integral(values):
        # an integral row's limit may be a difference of rounded sums: 31.9999999999996 means 32
        bound = np.floor(rhs + 1e-12 * max(1.0, abs(rhs)))
        return values.astype(np.int64), int(np.clip(bound, -LARGEST, LARGEST))
    if rhs <= 0:
        # nothing is left of the limit: no column with a positive coefficient fits
        return np.ceil(values / max(values.max(), 1e-300)).astype(np.int64), int(np.sign(rhs))
    unit = PRECISION * rhs / max(chosen_at_most, 1)
    limit = int(rhs / unit) + 1
    return np.floor(np.minimum(values / unit, limit + 1.0)).astype(np.int64), limit


def _add_rows(proto: cmh.CpModelProto, request: Request, matrix: csr_matrix) -> None:
    """All rows; those of whole numbers, nearly all, are copied as they are."""
    is_whole = matrix.data == np.floor(matrix.data)
    fractions = csr_matrix((~is_whole, matrix.indices, matrix.indptr), shape=matrix.shape)
    is_scaled = (fractions.sum(axis=1) > 0).A1.tolist()
    whole = np.where(is_whole, matrix.data, 0.0).astype(np.int64).tolist()
    starts, indices = matrix.indptr.tolist(), matrix.indices.tolist()
    equalities = request.program.is_equality.tolist()
    for number, rhs in enumerate(request.program.rhs.tolist()):
        first, last = starts[number], starts[number + 1]
        is_equality = equalities[number]
        if first == last and (rhs == 0 or (rhs > 0 and not is_equality)):
            continue
        if is_scaled[number] or rhs != int(rhs):
            scaled, limit = scale_row(matrix.data[first:last], rhs, request.chosen_at_most)
            coefficients = scaled.tolist()
        else:
            coefficients, limit = whole[first:last], int(rhs)
        linear = proto.constraints.add().linear
        linear.vars.extend(indices[first:last])
        linear.coeffs.extend(coefficients)
        linear.domain.extend([limit if is_equality else _FREE, limit])


def _build(request: Request, columns: IntArray, objective: Scaled) -> cmh.CpModelProto:
    proto = cmh.CpModelProto()
    for _ in range(len(columns)):
        proto.variables.add().domain.extend([0, 1])
    _add_rows(proto, request, csr_matrix(request.program.matrix[:, columns]))
    used = np.flatnonzero(objective.coefficients)
    terms, coefficients = used.tolist(), objective.coefficients[used].tolist()
    if terms:
        proto.objective.vars.extend(terms)
        proto.objective.coeffs.extend(coefficients)
    if request.cutoff is not None and terms:
        left = (request.cutoff - request.objective.constant) / objective.unit
        linear = proto.constraints.add().linear
        linear.vars.extend(terms)
        linear.coeffs.extend(coefficients)
        linear.domain.extend([_FREE, int(np.floor(left * (1 + PRECISION))) + 1])
    if request.hint is not None and may_hint(request.time_limit_s, len(columns)):
        proto.solution_hint.vars.extend(range(len(columns)))
        proto.solution_hint.values.extend(request.hint[columns].astype(int).tolist())
    return proto


def may_hint(time_limit_s: float, columns: int) -> bool:
    """Whether a search is long enough for a hint."""
    return time_limit_s >= HINT_LEAST_S + HINT_COLUMN_S * columns


def _watcher(request: Request, columns: IntArray, unit: float) -> OnPoint | None:
    """Hands every better plan to the caller, who keeps the incumbent."""
    on_plan = request.on_plan
    if on_plan is None:
        return None

    def on_point(values: list[int], bound: float) -> None:
        chosen = np.zeros(len(request.active), dtype=np.bool_)
        chosen[columns[np.array(values) > 0]] = True
        on_plan(chosen, bound * unit + request.objective.constant)

    return on_point


def _parameters(request: Request, workers: int, work: float, limit_s: float) -> cmh.SatParameters:
    parameters = cmh.SatParameters()
    parameters.random_seed = request.seed
    parameters.num_workers = workers
    # Knapsack rows over a near-integral relaxation: with all rows in the LP, one worker proves
    # ten times faster than CP-SAT's own default, and faster than two that share the cores.
    parameters.linearization_level = 2
    # Workers that exchange what they learn at fixed points of work: the same answer each run.
    parameters.interleave_search = workers > 1
    parameters.max_time_in_seconds = limit_s
    parameters.max_deterministic_time = work
    parameters.relative_gap_limit = request.gap
    return parameters


def run_solver(
    parameters: cmh.SatParameters, model: cmh.CpModelProto, on_point: OnPoint | None
) -> tuple[cmh.CpSolverResponse, bool]:
    """Solves in a process of its own (`apart`): the response, and whether Ctrl-C stopped it.

    Raises:
        SolverDiedError: CP-SAT ended its process.
        TimeoutError: it did not answer soon after its time.
    """
    return solve_apart(parameters, model, on_point)


def _search(
    request: Request, model: cmh.CpModelProto, watcher: OnPoint | None
) -> tuple[cmh.CpSolverResponse, Answer]:
    """One worker for a fixed amount of work; then, if more were offered, all of them."""
    deadline = time.monotonic() + request.time_limit_s
    slices = [(1, ALONE), (request.workers, math.inf)] if request.workers > 1 else [(1, math.inf)]
    for workers, work in slices:
        limit_s = max(deadline - time.monotonic(), 0.001)
        parameters = _parameters(request, workers, work, limit_s)
        response, is_stopped = run_solver(parameters, model, watcher)
        answer = answer_of(response.status, is_stopped)
        if answer is not Answer.TIME or time.monotonic() >= deadline:
            break
    return response, answer


def answer_of(status: cmh.CpSolverStatus, is_stopped: bool) -> Answer:
    if is_stopped:
        return Answer.INTERRUPTED
    if status == cmh.CpSolverStatus.OPTIMAL:
        return Answer.OPTIMAL
    if status == cmh.CpSolverStatus.INFEASIBLE:
        return Answer.INFEASIBLE
    if status in (cmh.CpSolverStatus.FEASIBLE, cmh.CpSolverStatus.UNKNOWN):
        return Answer.TIME
    return Answer.FAILED


@dataclass(frozen=True, slots=True)
class CpSat:
    """OR-Tools CP-SAT."""

    @property
    def name(self) -> str:
        """`CP-SAT` with the version of OR-Tools."""
        return f"CP-SAT {__version__}"

    def minimise(self, request: Request) -> Outcome:
        """Searches until proof, gap or time; deterministic for a seed unless time ended it."""
        columns = np.flatnonzero(request.active).astype(np.int64)
        costs = request.objective.coefficients[columns]
        objective = scale_objective(costs, request.scale, request.chosen_at_most)
        model = _build(request, columns, objective)
        watcher = _watcher(request, columns, objective.unit)
        try:
            response, answer = _search(request, model, watcher)
        except TimeoutError:  # what it found, the watcher was shown
            return Outcome(Answer.TIME)
        if answer is Answer.INFEASIBLE:
            return Outcome(answer, bound=float("inf"))
        if answer is Answer.FAILED:
            return Outcome(answer)
        constant = request.objective.constant
        bound = constant + max(response.best_objective_bound, 0.0) * objective.unit
        rounding = 0.0 if objective.is_exact else request.chosen_at_most * objective.unit
        chosen: BoolArray | None = None
        values = np.array(list(response.solution), dtype=np.int64)
        if len(values) or not len(columns):
            chosen = np.zeros(len(request.active), dtype=np.bool_)
            chosen[columns[values > 0]] = True
        return Outcome(answer, chosen, bound, rounding / bound if bound > 0 else 0.0)
