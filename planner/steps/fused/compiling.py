"""The compiler asked while planning: the choice is solved again until all its kernels exist.

Loops come last: the problem prices every step as a launch, so that a loop which is refused changes
what the plan promises and not what is best, and the launches it is made of are settled by then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from planner.errors import EnvironmentMismatchError
from planner.fuse.build import Draft
from planner.fuse.groups import Choice, Groups
from planner.fuse.loops import with_loops, with_sound_loops
from planner.fuse.sound import Replaced
from planner.ir.solution import Solution, Status
from planner.kernels.cache import KernelCache
from planner.kernels.compile import Compile, Compiled
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
        made = self.cache.compiled(kernels, asked, workers=os.cpu_count() or 1)
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
    """A problem, what was chosen, and the launches of that by bucket; each step of a loop is one
    as long as its kernel is not known to exist."""

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
    spills, `MAX_ROUNDS` times at most; then the loops that gain by price, where they compile."""
    replaced = Replaced()
    first = solve(replaced, None)
    if compile_each is None:
        return Existing(_looped(first, rates), 1, is_compiled=False)
    try:
        found = _compiled(first, solve, replaced, compile_each, rates, reporter)
        return replace(found, answer=_looped(found.answer, rates, compile_each))
    except EnvironmentMismatchError as error:  # a plan needs no compiler
        reporter.note(f"kernels are not compiled: {error.what}")
        return Existing(_looped(first, rates), 1, is_compiled=False)


def _looped(answer: Answer, rates: Rates, compile_each: Compile | None = None) -> Answer:
    """The answer with the loops that gain by price; with a compiler, those that it takes."""
    drafts = {name: with_loops(one, rates) for name, one in answer.drafts.items()}
    if compile_each is not None:
        drafts = {
            name: with_sound_loops(one, compile_each, rates.units) for name, one in drafts.items()
        }
    return replace(answer, drafts=drafts)


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
        made = compile_each([item for one in answer.drafts.values() for item in one.kernels])
        unsound = replaced.unsound(answer.chosen, answer.drafts, made)
        if not unsound or number == MAX_ROUNDS:
            break
        replaced.replace(unsound, rates, compile_each)
        if not made and not any(replaced.instead.values()):
            raise EnvironmentMismatchError("the compiler knows no such architecture")
        answer = solve(replaced, answer.solution)
    missing = (one.choice.candidate.makes[0] for one in unsound.values() if one.is_refused)
    return Existing(answer, number, tuple(missing))


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
