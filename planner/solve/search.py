"""The search under one setting: solve over the promising columns, prove the others away.

Let B be the relaxation's bound and d its reduced costs. A plan that uses a column with d_j > r
costs more than B + r. So the search runs over the columns with d_j <= r only; once the best plan
known costs at most B + r, the columns left out are proved away, and otherwise r grows. With few
limits and near-integral relaxations a few columns an operator suffice, whatever the number of
options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from planner.ir.problem import Objective
from planner.ir.solution import Solution, Status
from planner.solve.backend import Answer, Backend, Outcome, Request
from planner.solve.check import check
from planner.solve.data import HIGH, BoolArray, Data, FloatArray
from planner.solve.formulation import Formulation, Linear, Program, Row, assemble
from planner.solve.progress import Progress, Reporter
from planner.solve.relax import Relaxation
from planner.solve.running import Violation
from planner.solve.support import supported, with_levels

FIRST_SHARE = 0.6
"""Share of the columns, by reduced cost, that the first of several searches sees."""
SMALL = 400
"""Columns that are searched at once, without sifting."""
EQUAL = 1e-9
"""Relative difference below which two values count as the same."""
KEPT = 1e-8
"""Relative excess over a limit that counts as rounding, as in `check.py`."""
Chosen = tuple[BoolArray, int]
"""All columns, and the setting's number."""


@dataclass(slots=True)
class Task:
    """One setting's program for the objective at hand."""

    formulation: Formulation
    program: Program
    allowed: BoolArray
    objective: Linear
    relaxation: Relaxation

    @property
    def setting(self) -> int:
        """The setting's number."""
        return self.formulation.setting


@dataclass(slots=True)
class Search:
    """The incumbent and everything the searches of one solve share."""

    data: Data
    backends: Sequence[Backend]
    deadline: float
    gap: float
    seed: int
    workers: int
    reporter: Reporter | None = None
    objective: Objective = Objective.LATENCY
    """The objective at hand."""
    started: float = field(default_factory=monotonic)
    best: Chosen | None = None
    value: float = math.inf
    """The incumbent's value under the objective at hand."""
    cuts: list[Row] = field(default_factory=list)
    rays: list[FloatArray] = field(default_factory=list)
    """Multipliers that proved some setting infeasible; often they do for others."""
    rounding: float = 0.0
    used: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Of each backend whose answer was not believed: why, the first time."""
    hit_time_limit: bool = False
    is_interrupted: bool = False

    @property
    def remaining_s(self) -> float:
        """Seconds until the time limit, never negative."""
        return max(0.0, self.deadline - monotonic())

    @property
    def must_stop(self) -> bool:
        """Whether time or Ctrl-C ended the search."""
        return self.hit_time_limit or self.is_interrupted

    @property
    def solver(self) -> str:
        """Who was asked, and why an answer was refused, as plans report it."""
        named = " + ".join(self.used) or "seed and relaxation"
        refused = (f"{name} was refused: {why}" for name, why in self.refused.items())
        return "; ".join((named, *refused))

    def is_proved(self, bound: float) -> bool:
        """Whether nothing better than the incumbent exists, within the gap asked for."""
        if math.isinf(self.value):
            return bound == math.inf
        allowed = max(self.gap, EQUAL, self.rounding) * (1 + EQUAL)  # a bound may sit on the edge
        return bound >= self.value - allowed * abs(self.value)

    def restart(self) -> None:
        """Forgets the incumbent; cuts stay, they hold for every plan."""
        self.best, self.value = None, math.inf

    def offer(self, task: Task, chosen: BoolArray, bound: float, strategy: str) -> str:
        """Takes a plan as the incumbent if it is better and can run; otherwise says why not.

        Cuts for plans that cannot run are added to `cuts`.
        """
        found = supported(self.data, chosen)
        if found.cuts:
            self.cuts.extend(found.cuts)
            return "cut"
        kept = with_levels(self.data, found.chosen)
        broken = self.violations(task, kept)
        if broken:
            return f"{broken[0].constraint}: {broken[0].what}"
        value = task.objective.value(kept)
        if value < self.value - EQUAL * abs(value) or self.best is None:
            self.best, self.value = (kept, task.setting), value
            self.report(task, bound, strategy)
        return ""

    def violations(self, task: Task, chosen: BoolArray) -> tuple[Violation, ...]:
        """The independent checker's word on a choice, and whether earlier objectives are kept."""
        broken = check(self.data.problem, self.named(task.formulation, chosen))
        if broken:
            return broken
        if breaks(task.program, chosen):
            return (Violation("fixed", "an earlier objective got worse"),)
        return ()

    def named(self, formulation: Formulation, chosen: BoolArray) -> Solution:
        """A choice by names, without certificate."""
        problem = self.data.problem
        options = [problem.options[g] for g in np.flatnonzero(chosen[: self.data.options])]
        options.sort(key=lambda option: min(self.data.op_index[name] for name in option.ops))
        conversions = [
            c.name for v, c in enumerate(problem.conversions) if chosen[self.data.options + v]
        ]
        return Solution(
            Status.FEASIBLE,
            tuple(option.name for option in options),
            tuple(conversions),
            formulation.name,
            is_uncertain=formulation.end != HIGH,
        )

    def report(self, task: Task, bound: float, strategy: str) -> None:
        """Tells the reporter, if there is one."""
        if self.reporter is None:
            return
        value = self.value if math.isfinite(self.value) else None
        self.reporter(
            Progress(monotonic() - self.started, self.objective.value, value, bound, strategy)
        )

    def run(self, task: Task) -> float:
        """Searches one setting; the proved bound, infinite where nothing better is feasible."""
        reach = self._first_reach(task)
        while True:
            active = task.allowed & (task.relaxation.reduced <= reach)
            if self.best is not None and self.best[1] == task.setting:
                active |= self.best[0]
            outcome = self._minimise(task, active)
            covered = math.inf if (active == task.allowed).all() else task.relaxation.bound + reach
            bound = max(task.relaxation.bound, min(outcome.bound, covered))
            if self.must_stop or outcome.answer is Answer.FAILED:
                return bound
            if self.is_proved(bound) or math.isinf(covered):
                return bound
            reach = self._next_reach(task, reach)

    def _first_reach(self, task: Task) -> float:
        """Enough columns for a handful of choices per operator."""
        reduced = np.sort(task.relaxation.reduced[task.allowed])
        if len(reduced) <= SMALL or task.relaxation.values is None:
            return math.inf
        wanted = min(len(reduced) - 1, max(SMALL, int(FIRST_SHARE * len(reduced))))
        reach = max(float(reduced[wanted]), 0.0)
        return min(reach, self._proving_reach(task))

    def _next_reach(self, task: Task, reach: float) -> float:
        proving = self._proving_reach(task)
        if math.isfinite(proving):
            return proving if proving > reach else math.inf
        return max(8.0 * reach, 1e-3 * abs(task.relaxation.bound), 1e-9)

    def _proving_reach(self, task: Task) -> float:
        return (self.value - task.relaxation.bound) * (1 + 1e-6) + EQUAL * abs(self.value)

    def _minimise(self, task: Task, active: BoolArray) -> Outcome:
        """Asks the first backend, the next where one fails; adds cuts until the answer can run."""
        for backend in self.backends:
            outcome, complaint = self._ask(backend, task, active)
            if not complaint:
                return outcome
            self.refused.setdefault(backend.name, complaint)
            if self.must_stop:
                break
        return Outcome(Answer.FAILED)

    def _ask(self, backend: Backend, task: Task, active: BoolArray) -> tuple[Outcome, str]:
        while True:
            if self.remaining_s <= 0:
                self.hit_time_limit = True
                return Outcome(Answer.TIME), ""
            request = self._request(backend, task, active)
            try:
                outcome = backend.minimise(request)
            except Exception as error:  # noqa: BLE001 - a backend may raise anything; the next one is asked
                return Outcome(Answer.FAILED), f"{type(error).__name__}: {error}"
            if backend.name not in self.used:
                self.used.append(backend.name)
            self.hit_time_limit |= outcome.answer is Answer.TIME
            self.is_interrupted |= outcome.answer is Answer.INTERRUPTED
            complaint = self._judge(backend, task, request, outcome)
            if complaint != "cut":
                self.rounding = max(self.rounding, outcome.rounding)
                return outcome, complaint

    def _request(self, backend: Backend, task: Task, active: BoolArray) -> Request:
        program = task.program
        if self.cuts:
            program = program.extended(assemble(self.cuts, self.data.columns))

        def on_plan(chosen: BoolArray, bound: float) -> None:
            known = len(self.cuts)
            self.offer(task, chosen, max(bound, task.relaxation.bound), backend.name)
            del self.cuts[known:]  # cuts join between runs, so that runs do not depend on callbacks

        here = self.best is not None and self.best[1] == task.setting
        hint = self.best[0] if here and self.best is not None else None
        return Request(
            program=program,
            objective=task.objective,
            active=active,
            chosen_at_most=len(self.data.problem.ops) + len(self.data.problem.conversions) + 1,
            cutoff=self.value if self.best is not None else None,
            hint=hint,
            scale=task.relaxation.bound - task.objective.constant,
            time_limit_s=self.remaining_s,
            gap=self.gap,
            seed=self.seed,
            workers=self.workers,
            on_plan=on_plan,
        )

    def _judge(self, backend: Backend, task: Task, request: Request, outcome: Outcome) -> str:
        """What is wrong with an outcome: empty when nothing is, `cut` when cuts were added."""
        complaint = _contradiction(request, outcome)
        if complaint or outcome.chosen is None:
            return complaint
        return self.offer(task, outcome.chosen, outcome.bound, backend.name)


def breaks(program: Program, chosen: BoolArray) -> bool:
    """Whether a choice breaks a row by more than rounding."""
    used = program.matrix @ chosen.astype(np.float64)
    slack = KEPT * np.abs(program.rhs) + 1e-12
    over = (used > program.rhs + slack) | (program.is_equality & (used < program.rhs - slack))
    return bool(over.any())


def _contradiction(request: Request, outcome: Outcome) -> str:
    """What an outcome says against itself or against what is known."""
    if outcome.answer is Answer.FAILED:
        return "no answer"
    hint, chosen = request.hint, outcome.chosen
    is_allowed = hint is not None and not (hint & ~request.active).any()
    if outcome.answer is Answer.INFEASIBLE and is_allowed:
        return "infeasible, although the best plan known is allowed"
    if chosen is None:
        return "optimal without a choice" if outcome.answer is Answer.OPTIMAL else ""
    return _contradicted_choice(request, chosen, outcome.bound)


def _contradicted_choice(request: Request, chosen: BoolArray, bound: float) -> str:
    if (chosen & ~request.active).any():
        return "an inactive column is chosen"
    if breaks(request.program, chosen):
        return "the choice breaks a row"
    value = request.objective.value(chosen)
    if bound > value * (1 + 1e-6) + 1e-12:
        return f"the bound {bound} lies above its own answer {value}"
    return ""
