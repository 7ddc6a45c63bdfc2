"""The compiler asked while planning: the choice is solved again until all its kernels exist."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from planner.errors import EnvironmentMismatchError
from planner.fuse.build import Draft
from planner.fuse.groups import Choice, Groups
from planner.fuse.roll import rolled_up
from planner.fuse.sound import Compile, Replaced
from planner.ir.solution import Solution, Status
from planner.kernels.cache import KernelCache
from planner.kernels.compile import Compiled
from planner.kernels.estimate import Rates
from planner.kernels.source import Kernel
from planner.progress import Reporter
from planner.solve.check import check, priced, value
from planner.solve.progress import relative_gap

MAX_ROUNDS = 8
"""Choices that are compiled; what the last one lacks, `deploy` replaces."""


@dataclass(frozen=True, slots=True)
class Compilers:
    """What `deploy` compiles with, for the architecture of the device that is planned for."""

    cache: KernelCache
    architecture: int

    def __call__(self, kernels: Sequence[Kernel]) -> dict[str, Compiled]:
        """What compiles, by kernel name; what was compiled or refused before is not tried again.

        Raises:
            EnvironmentMismatchError: the compiler does not run here.
        """
        asked = [self.architecture]
        try:
            made = self.cache.compiled(kernels, asked, workers=os.cpu_count() or 1)
        except BrokenProcessPool:
            raise EnvironmentMismatchError("a process of the compiler was ended") from None
        return {name: one for (name, _), one in made.items()}


def compilers_here(folder: Path, architecture: int) -> Compilers | None:
    """Compilers for an architecture; None where Triton is not installed, or knows no such one.

    Args:
        folder: where compiled kernels are kept, as for `deploy`.
    """
    if architecture == 0:
        return None
    try:
        return Compilers(KernelCache(folder), architecture)
    except EnvironmentMismatchError:
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """A problem, what was chosen, and the launches of that by bucket."""

    groups: Groups
    solution: Solution
    drafts: Mapping[str, Draft]

    @property
    def chosen(self) -> dict[str, Choice]:
        """Options that are launches."""
        listed = self.groups.choices
        return {name: listed[name] for name in self.solution.chosen if name in listed}


Solve = Callable[[Replaced, Solution | None], Answer]
"""With what the compiler taught so far, and the answer before -> a new answer."""


@dataclass(frozen=True, slots=True)
class Existing:
    """An answer, and how far its kernels are known to exist."""

    answer: Answer
    rounds: int
    missing: tuple[str, ...] = ()
    """Tensors whose kernels the compiler refuses."""
    is_compiled: bool = True
    """Whether the compiler was asked."""


def existing(
    solve: Solve, compile_each: Compile | None, rates: Rates, reporter: Reporter
) -> Existing:
    """Solves, compiles what was chosen, and solves again without what the compiler refuses or
    spills, `MAX_ROUNDS` times at most."""
    replaced = Replaced()
    first = solve(replaced, None)
    if compile_each is None:
        return Existing(first, 1, is_compiled=False)
    try:
        return _compiled(first, solve, replaced, compile_each, rates, reporter)
    except EnvironmentMismatchError as error:  # a plan needs no compiler
        reporter.note(f"kernels are not compiled: {error.what}")
        return Existing(first, 1, is_compiled=False)


def _compiled(
    answer: Answer,
    solve: Solve,
    replaced: Replaced,
    compile_each: Compile,
    rates: Rates,
    reporter: Reporter,
) -> Existing:
    for number in range(1, MAX_ROUNDS + 1):
        reporter.stage("compile")
        made = compile_each(_kernels(answer.drafts))
        unsound = replaced.unsound(answer.chosen, answer.drafts, made)
        if not unsound or number == MAX_ROUNDS:
            break
        replaced.replace(unsound, rates, compile_each)
        if not made and not any(replaced.instead.values()):  # it knows no such architecture
            return Existing(answer, number, is_compiled=False)
        answer = solve(replaced, answer.solution)
    missing = (one.choice.candidate.makes[0] for one in unsound.values() if one.is_refused)
    return Existing(answer, number, tuple(missing))


def _kernels(drafts: Mapping[str, Draft]) -> list[Kernel]:
    """All that `deploy` will ask for: launches, and loops of them."""
    return [item for one in drafts.values() for item in (*one.kernels, *rolled_up(one).kernels)]


def better(groups: Groups, found: Solution, earlier: Solution | None) -> Solution:
    """A new answer, or the choice before it at its new prices where time ended the search early.

    Args:
        earlier: of a problem with the same options at other prices, or a few more of them.
    """
    if earlier is None or found.status in (Status.OPTIMAL, Status.INFEASIBLE):
        return found
    problem = groups.problem
    if not set(earlier.chosen) <= {option.name for option in problem.options}:
        return found
    totals = priced(problem, earlier.choice)
    objective = tuple(value(totals, one) for one in problem.objectives)
    if found.status is Status.FEASIBLE and found.objective <= objective:
        return found
    bound = found.bound or (0.0,) * len(objective)
    kept = Solution(
        Status.FEASIBLE,
        earlier.chosen,
        earlier.conversions,
        earlier.setting,
        totals,
        objective,
        bound,
        relative_gap(objective[0], bound[0]),
        is_uncertain=earlier.is_uncertain,
        hit_time_limit=True,
        solver=earlier.solver,
    )
    return found if check(problem, kept) else kept
