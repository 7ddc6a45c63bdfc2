"""Solved, built and measured, until answers and memory keep what was promised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from planner.emit.blueprint import Part, Talk
from planner.emit.partition import partition, stage_cuts
from planner.errors import InfeasibleError
from planner.ir.problem import Problem
from planner.ir.solution import Solution
from planner.place.chunks import Chunk
from planner.place.recompute import Again
from planner.place.residency import AGAIN, RESIDENT, STREAMED, Priced, option_name
from planner.spec.conflict import MEMORY_KEY
from planner.spec.execution import StageExecution
from planner.spec.plan import Plan
from planner.steps.process import peak_bytes
from planner.steps.streaming.again import stages_of
from planner.steps.streaming.decide import NOTHING_ALIVE, Alive, Run, shares_of, solve_residency
from planner.steps.streaming.document import Fit, execution_of
from planner.steps.streaming.mix import Mixer
from planner.steps.streaming.model import Model
from planner.steps.streaming.ways import chunks_of
from planner.steps.workspace import Workspace
from planner.units import format_size, whole_mib

_MOST_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be decided."""

    plan: Plan
    base: Model
    """The model that runs are of."""
    runs: Sequence[Chunk]
    priced: Sequence[Run]
    limit: int
    again: Sequence[Again] = ()
    """What may be made again."""
    alive: Alive = NOTHING_ALIVE
    """Activations run by run, where anything may."""


def fitting(asked: Question, mixer: Mixer, work: Workspace) -> Fit:
    """The best mix of ways and residencies whose answers are good enough, and whose process stays
    within the limit.

    What is counted leaves out what allocators and threads keep, and pages of tables: the next plan
    is solved with as much besides what is counted as the last process took. So a plan that took
    too much is never solved again, and ever less is counted.

    Raises:
        InfeasibleError: with the memory that the smallest plan took.
    """
    more = 0
    peaks: list[int] = []
    tried: set[tuple[str, ...]] = set()
    for number in range(_MOST_ROUNDS):
        solution, problem = solve_residency(
            asked.priced, shares_of(asked.plan), asked.base, asked.limit, more, asked.plan,
            mixer.error_limit, asked.alive,
        )  # fmt: skip
        if solution.chosen in tried:
            break
        folder = work.scratch / f"streamed-{len(asked.again)}-{number}"
        fit = _built(asked, mixer, solution, problem, more, folder)
        if fit is None:
            continue
        tried.add(solution.chosen)
        if fit.peak_size_bytes is None or fit.peak_size_bytes <= asked.limit:
            return replace(fit, rounds=number + 1)
        peaks.append(fit.peak_size_bytes)
        more = max(more, fit.peak_size_bytes - fit.counted_bytes)
        work.reporter.note(
            f"{format_size(peaks[-1])} were taken of {format_size(asked.limit)}: solving again "
            f"with {format_size(more)} besides what is counted"
        )
    needed = min(peaks)
    raise InfeasibleError(
        f"a process takes {format_size(needed)} even where weights stream, "
        f"{format_size(more)} more than is counted ({len(peaks)} plans were measured)",
        where=MEMORY_KEY,
        fix=f"--memory {whole_mib(needed)}",
    )


def _built(
    asked: Question, mixer: Mixer, solution: Solution, problem: Problem, more: int, folder: Path
) -> Fit | None:
    """A solution as parts in a folder, and what a process that runs them takes; None where its
    answers are not good enough, which the mixer remembers."""
    copies = {copy.name for copy in asked.alive.copies}
    names = [name for name in problem.ops if name not in copies]
    options = set(solution.chosen)
    chosen, streams = _chosen(names, asked.priced, options)
    again = _again(asked, options)
    mix = mixer.mixed(asked.runs, [each.form for each in chosen])
    if mix is None:
        return None
    execution = _execution(asked, mix.model, streams, again)
    parts = _parts(mix.model.with_copies([each.recorded for each in again]), execution, folder)
    formats = {op: str(form) for op, form in sorted(mix.formats.items())}
    plan = asked.plan.model_copy(update={"formats": formats})
    specs = mix.model.inputs, mix.model.outputs
    peak = peak_bytes(plan, parts, specs, asked.base.feeds, folder)
    return Fit(
        solution, problem, tuple(asked.runs), chosen, streams, execution, parts, peak, 1, mix,
        _counted(solution, more), again,
    )  # fmt: skip


def _counted(solution: Solution, more: int) -> int:
    """What the Problem counts of it, without what processes were seen to take besides."""
    assert solution.totals is not None, "a solution that was chosen has totals"
    return max(solution.totals.stage_memory_size_bytes) - more


def _again(asked: Question, options: set[str]) -> tuple[Again, ...]:
    pairs = zip(asked.again, asked.alive.copies, strict=True)
    return tuple(each for each, copy in pairs if option_name(copy.name, "", AGAIN) in options)


def _execution(
    asked: Question, model: Model, streams: Sequence[bool], again: Sequence[Again]
) -> tuple[StageExecution, ...]:
    """Parts in order; copies stand before the runs that first read them, in parts of their own."""
    before = stages_of(again)
    runs = chunks_of(model, asked.base.graph, asked.runs)
    found: list[StageExecution] = []
    since = 0
    for number, run in enumerate(asked.runs):
        own = [StageExecution(ops=ops) for op in run.ops for ops in before.get(op, ())]
        if own:
            found += [*execution_of(runs[since:number], streams[since:number]), *own]
            since = number
    return (*found, *execution_of(runs[since:], streams[since:]))


def _chosen(
    names: Sequence[str], priced: Sequence[Run], options: set[str]
) -> tuple[tuple[Priced, ...], tuple[bool, ...]]:
    """Of each run, its way, and whether its weights stream."""
    ways, streams = [], []
    for name, run in zip(names, priced, strict=True):
        moved = [each for each in run if option_name(name, each.form, STREAMED) in options]
        kept = [each for each in run if option_name(name, each.form, RESIDENT) in options]
        ways.append((moved or kept)[0])
        streams.append(bool(moved))
    return tuple(ways), tuple(streams)


def _parts(
    model: Model, execution: Sequence[StageExecution], folder: Path
) -> tuple[Part | Talk, ...]:
    cuts = stage_cuts(model.proto, (model.graph,), execution)
    return partition(
        model.proto, (model.graph,), cuts, folder, model.settings, model.part.parent,
        maps_weights=True,
    )  # fmt: skip


def recompute_us(asked: Question, fit: Fit) -> dict[str, float]:
    """What making tensors again adds to the time, by workload shape."""
    chosen = {each.recorded.tensor for each in fit.again}
    pairs = zip(asked.again, asked.alive.copies, strict=True)
    rows = [copy.latency for each, copy in pairs if each.recorded.tensor in chosen]
    return {
        shape.name: sum(row[number].expected_us for row in rows)
        for number, shape in enumerate(asked.plan.workload)
    }
