"""`solve(problem)`: settings, seeds, relaxations, search and proof, and a check of what leaves.

For each end of C8's interval (upper first: certain; then expected, then lower: uncertain), for
each objective in order: relax every setting, search those whose bound could beat the incumbent,
best bound first, then fix what was reached and go on to the next objective over the settings that
still tie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np

from planner.errors import InfoptError
from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.backend import Backend
from planner.solve.check import check, price, value
from planner.solve.constraints import setting_rows, structural_rows
from planner.solve.cpsat import CpSat
from planner.solve.data import EXPECTED, HIGH, LOW, Data, index
from planner.solve.forms import solve_form
from planner.solve.formulation import Formulation, Linear, Row, assemble
from planner.solve.highs import Highs
from planner.solve.presolve import undominated
from planner.solve.progress import Reporter, relative_gap
from planner.solve.relax import Relaxation, certified, projected, refutes, relax
from planner.solve.search import EQUAL, Search, Task, breaks
from planner.solve.seeds import rounded, seeds
from planner.solve.validate import validate

BACKENDS: tuple[Backend, ...] = (CpSat(), Highs())
"""Asked in this order; the next only where one fails."""


@dataclass(slots=True)
class _Round:
    """What one pass over the objectives found, under one end of the interval."""

    status: Status
    bounds: list[float]
    is_proved: bool = False


def solve(
    problem: Problem,
    *,
    time_limit_s: float = 60.0,
    gap: float = 0.0,
    seed: int = 0,
    workers: int = 2,
    reporter: Reporter | None = None,
    backends: Sequence[Backend] = BACKENDS,
    known: Sequence[Solution] = (),
) -> Solution:
    """The best plan, with its certificate; the status says how far the proof got.

    Args:
        time_limit_s: wall-clock limit; 0 returns the best seed with the gap of the projected bound.
        gap: relative gap of each objective at which the search may stop.
        seed: same problem, seed and versions give the same answer unless time ended the search.
        workers: solver threads, at least one; those beyond the first join in long searches only.
        reporter: receives progress, also from a solver's thread.
        backends: solvers, first choice first.
        known: plans of problems with the same parts, tried first in a pipeline; those that break
            something are passed over.

    Ctrl-C returns the incumbent, marked `is_interrupted`.

    Raises:
        UsageError: the problem makes no sense (see `validate`).
    """
    started = monotonic()
    validate(problem)
    if not problem.settings:
        return Solution(Status.OPTIMAL, gap=0.0, seconds=0.0)
    answer = solve_form(
        problem,
        time_limit_s=max(started + time_limit_s - monotonic(), 0.0),
        gap=gap,
        seed=seed,
        workers=max(workers, 1),
        reporter=reporter,
        known=tuple(known),
    )
    if answer is not None:
        return answer
    search = Search(
        index(problem), backends, started + time_limit_s, gap, seed, max(workers, 1), reporter
    )
    outcome = _Round(Status.UNKNOWN, [])
    end = HIGH
    try:
        for end in _ends(problem):
            outcome = _Round(Status.UNKNOWN, [], is_proved=True)
            _minimise(search, end, outcome)
            if outcome.status is not Status.INFEASIBLE:
                break
    except KeyboardInterrupt:
        search.is_interrupted = True
        reached = Status.FEASIBLE if search.best is not None else Status.UNKNOWN
        outcome = _Round(reached, outcome.bounds)
    return _certified(search, outcome, end, monotonic() - started)


def _ends(problem: Problem) -> tuple[int, ...]:
    return (HIGH,) if problem.limits.latency_us is None else (HIGH, EXPECTED, LOW)


def _minimise(search: Search, end: int, result: _Round) -> None:
    """All objectives in order, C8 at one end of the interval."""
    tasks = _tasks(search.data, end)
    search.restart()
    for number, objective in enumerate(search.data.problem.objectives):
        _aim(search, tasks, objective)
        bound, tasks = _stage(search, tasks, seeded=number > 0)
        if search.best is None:
            proved = math.isinf(bound) and not search.must_stop
            result.status = Status.INFEASIBLE if proved else Status.UNKNOWN
            return
        result.bounds.append(min(bound, search.value))
        result.is_proved &= search.is_proved(bound)
        for task in tasks:
            _fix(search, task, objective)
    result.status = Status.OPTIMAL if result.is_proved else Status.FEASIBLE


def _tasks(data: Data, end: int) -> list[Task]:
    structure = assemble(structural_rows(data), data.columns)
    tasks = []
    for setting in range(len(data.problem.settings)):
        formulation = Formulation(data, setting, end)
        rows = setting_rows(formulation)
        program = structure.extended(assemble(rows, data.columns)) if rows else structure
        nothing = Linear(0.0, np.zeros(data.columns))
        relaxation = Relaxation(-math.inf, nothing.coefficients, np.zeros(len(program.rhs)))
        tasks.append(Task(formulation, program, undominated(formulation), nothing, relaxation))
    return tasks


def _aim(search: Search, tasks: Sequence[Task], objective: Objective) -> None:
    """Turns every task, and the incumbent's value, to the next objective."""
    for task in tasks:
        task.objective = task.formulation.objective(objective)
        task.relaxation = projected(search.data, task.program, task.objective, task.allowed)
    search.objective = objective
    search.value = math.inf
    for task in tasks:
        if search.best is not None and search.best[1] == task.setting:
            search.value = task.objective.value(search.best[0])


def _stage(search: Search, tasks: list[Task], seeded: bool) -> tuple[float, list[Task]]:
    """Minimises one objective over all settings: the proved bound, the settings that may tie."""
    for task in tasks:
        if any(refutes(task.program, task.allowed, ray) for ray in search.rays):
            task.relaxation = replace(task.relaxation, bound=math.inf)
    _relax_all(search, tasks, seeded=seeded)
    bounds: dict[int, float] = {task.setting: task.relaxation.bound for task in tasks}
    for task in sorted(tasks, key=_promise):
        if search.remaining_s <= 0:
            search.hit_time_limit |= not search.is_proved(task.relaxation.bound)
        if not search.must_stop and not search.is_proved(task.relaxation.bound):
            bounds[task.setting] = search.run(task)
    ties = search.value + EQUAL * abs(search.value)
    left = [task for task in tasks if bounds[task.setting] <= ties]
    return min(bounds.values(), default=math.inf), left


def _promise(task: Task) -> tuple[float, int]:
    """Settings are taken in the order of their bounds."""
    return task.relaxation.bound, task.setting


def _relax_all(search: Search, tasks: Sequence[Task], *, seeded: bool) -> None:
    """Bounds by relaxation; one setting's multipliers are tried on the next before it is solved.

    Greedy plans are made only where the plan rounded from the relaxation is not within the gap:
    mostly it is, and they take longer than the relaxation does.
    """
    duals = None
    for task in sorted(tasks, key=_promise):
        if duals is not None and task.relaxation.bound < math.inf:
            lent = certified(task.program, task.objective, task.allowed, duals)
            task.relaxation = max(task.relaxation, lent, key=lambda found: found.bound)
        if any(refutes(task.program, task.allowed, ray) for ray in search.rays):
            task.relaxation = replace(task.relaxation, bound=math.inf)
        if search.is_proved(task.relaxation.bound):
            continue
        _relax(search, task)
        if math.isinf(task.relaxation.bound):
            search.rays.append(task.relaxation.duals)
            continue
        duals = task.relaxation.duals
        if not seeded and not search.is_proved(task.relaxation.bound):
            _seed(search, task)


def _seed(search: Search, task: Task) -> None:
    limits = _limits(task)
    for plan in seeds(task.formulation, task.allowed, task.objective, limits):
        _offer_quietly(search, task, plan, "seed")


def _offer_quietly(search: Search, task: Task, plan: np.ndarray, strategy: str) -> None:
    """A heuristic's plan: taken if it keeps the rows and can run; its cuts are not needed."""
    if task.objective.value(plan) >= search.value or breaks(task.program, plan):
        return
    known = len(search.cuts)
    search.offer(task, plan, task.relaxation.bound, strategy)
    del search.cuts[known:]


def _limits(task: Task) -> list[Linear]:
    """What the user's limits bound, scaled so that 1 is the limit."""
    limits = task.formulation.data.problem.limits
    pairs = [(task.formulation.error(), limits.error)]
    pairs.append((task.formulation.memory(), limits.memory_size_bytes))
    return [
        Linear(linear.constant / limit, linear.coefficients / limit)
        for linear, limit in pairs
        if limit
    ]


def _relax(search: Search, task: Task) -> None:
    """A better bound, and a plan rounded from it."""
    task.relaxation = relax(
        task.program, task.objective, task.allowed, task.relaxation, search.remaining_s
    )
    if task.relaxation.values is not None:
        plan = rounded(task.formulation, task.allowed, task.relaxation.values)
        if plan is not None:
            _offer_quietly(search, task, plan, "relaxation")


def _fix(search: Search, task: Task, objective: Objective) -> None:
    """From now on no worse than the value reached; columns that would be are dropped."""
    slack = EQUAL * abs(search.value)
    reduced = task.relaxation.reduced
    task.allowed &= task.relaxation.bound + np.maximum(reduced, 0.0) <= search.value + 2 * slack
    used = np.flatnonzero(task.objective.coefficients)
    if len(used):
        row = Row(
            f"fixed/{objective.value}",
            tuple(used.tolist()),
            tuple(task.objective.coefficients[used].tolist()),
            search.value - task.objective.constant,
        )
        task.program = task.program.extended(assemble([row], search.data.columns))


def _certified(search: Search, outcome: _Round, end: int, seconds: float) -> Solution:
    """The solution with totals and certificate, after the checker has seen it."""
    problem = search.data.problem
    base = Solution(
        outcome.status,
        hit_time_limit=search.hit_time_limit,
        is_interrupted=search.is_interrupted,
        solver=search.solver,
        seconds=seconds,
    )
    if search.best is None:
        return base
    chosen, setting = search.best
    plan = search.named(Formulation(search.data, setting, end), chosen)
    totals = price(problem, plan.chosen, plan.conversions, plan.setting or "")
    values = tuple(value(totals, objective) for objective in problem.objectives)
    bounds = [*outcome.bounds, *(0.0 for _ in values[len(outcome.bounds) :])]
    bound = tuple(min(max(b, 0.0), v) for b, v in zip(bounds, values, strict=True))
    status = Status.FEASIBLE if outcome.status is Status.UNKNOWN else outcome.status
    solution = replace(
        base,
        status=status,
        chosen=plan.chosen,
        conversions=plan.conversions,
        setting=plan.setting,
        totals=totals,
        objective=values,
        bound=bound,
        gap=relative_gap(values[0], bound[0]),
        is_uncertain=end != HIGH,
        rounding=search.rounding,
    )
    broken = check(problem, solution)
    if broken:
        raise InfoptError(
            f"the checker refuses the answer: {broken[0].constraint}, {broken[0].what}"
        )
    return solution
