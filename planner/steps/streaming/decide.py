"""Which runs of operators keep their weights: each timed both ways, then one Problem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from planner.emit.partition import StageCut, partition
from planner.errors import InfeasibleError
from planner.graph.sandbox import MANY_RUNS, Sandbox
from planner.ir.devices import Hold
from planner.ir.problem import Latency, Objective, Problem
from planner.ir.solution import Solution, Status
from planner.place.chunks import Chunk, chunks
from planner.place.recompute import Again
from planner.place.residency import Copy, Priced, pose_residency
from planner.profiling.streams import Timed, time_streams
from planner.runtime.fingerprint import usable_cores
from planner.spec.conflict import MEMORY_KEY
from planner.spec.plan import Plan
from planner.steps.streaming.model import Model
from planner.steps.streaming.ways import Way, chunks_of
from planner.steps.workspace import Workspace
from planner.units import format_size, whole_mib


class Alive(NamedTuple):
    """Activations of a sequence of runs."""

    holds: Sequence[Sequence[Hold]] = ()
    copies: Sequence[Copy] = ()


NOTHING_ALIVE = Alive()
Run = tuple[Priced, ...]
"""The ways that a run may take."""
_SLOT_SHARE = 0.1
"""Of what the process may hold besides its runtime: what one part fetches, about. Two are there at
a time; smaller ones would leave more room for weights that stay, and cost more calls."""
_MOST_PARTS = 96
"""A session and a call each."""
SECONDS = 0.2
"""Each part and each way is timed for, at most."""
_SOLVE_S = 20.0
_GAP = 0.001


def runs_of(model: Model, limit: int, copies: Sequence[Again] = ()) -> tuple[Chunk, ...]:
    """Runs of operators whose weights come and go together; what may read a copy begins one.

    Raises:
        InfeasibleError: no room besides the runtime.
    """
    spare = limit - model.runtime_bytes
    if spare <= 0:
        raise InfeasibleError(
            f"the runtime takes {format_size(model.runtime_bytes)}: {format_size(limit)} leave no "
            "room for any weight, even where all of them stream",
            where=MEMORY_KEY,
            fix="a larger --memory",
        )
    room = max(spare - model.activation_bytes, spare // 4)
    total = sum(model.fetched.values())
    most = int(max(_SLOT_SHARE * room, total / _MOST_PARTS))
    also = [each.before for each in copies]
    return chunks(model.graph, model.fetched, most, model.tables, also)


def _cuts(runs: Sequence[Chunk], *, is_streamed: bool) -> list[StageCut]:
    return [StageCut((0,), frozenset(run.ops), is_streamed=is_streamed) for run in runs]


def price(ways: Sequence[Way], runs: Sequence[Chunk], plan: Plan, work: Workspace) -> list[Run]:
    """Every run in every way, timed with weights that stay and with weights that stream, on every
    shape.

    Args:
        ways: the first is what `runs` are of.
    """
    base = ways[0].model
    least = min(way.model.activation_bytes for way in ways)
    found: list[list[Priced]] = [[] for _ in runs]
    for way in ways:
        chunks_here = runs if way is ways[0] else chunks_of(way.model, base.graph, runs)
        if not all(chunk.ops for chunk in chunks_here):
            continue  # it made one run of two: they cannot take different ways
        scratch = work.scratch / f"runs-{len(ways)}-{way.label}"
        spans = _both(way.model, chunks_here, plan, scratch)
        for run, chunk, alternatives, (kept, moved) in zip(
            runs, chunks_here, found, spans, strict=True
        ):
            alternatives.append(
                Priced(
                    chunk,
                    kept,
                    moved,
                    way.label,
                    way.error(run),
                    way.model.activation_bytes - least,
                )
            )
    return [tuple(_distinct(each)) for each in found]


def _distinct(ways: Sequence[Priced]) -> Iterator[Priced]:
    """Without those that are no better in anything than another: runs without weights look alike
    in all formats."""
    for number, each in enumerate(ways):
        others = (*ways[:number], *(w for w in ways[number + 1 :] if _key(w) != _key(each)))
        if not any(_is_no_worse(other, each) for other in others):
            yield each


def _key(way: Priced) -> tuple[object, ...]:
    return way.chunk.weight_size_bytes, way.chunk.fetched_size_bytes, way.resident, way.streamed


def _is_no_worse(one: Priced, other: Priced) -> bool:
    """Than the other in anything that the Problem counts."""
    if other.streamed is not None and one.streamed is None:
        return False
    pairs = [(one.resident, other.resident)]
    if one.streamed is not None and other.streamed is not None:
        pairs.append((one.streamed, other.streamed))
    times = ((a, b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True))
    sizes = [
        (way.chunk.fetched_size_bytes, way.workspace_size_bytes, way.error,
         way.weight_size_bytes(is_streamed=False), way.weight_size_bytes(is_streamed=True))
        for way in (one, other)
    ]  # fmt: skip
    return all(a.expected_us <= b.expected_us and a.high_us <= b.high_us for a, b in times) and all(
        a <= b for a, b in zip(*sizes, strict=True)
    )


def _both(
    model: Model, runs: Sequence[Chunk], plan: Plan, scratch: Path
) -> list[tuple[tuple[Latency, ...], tuple[Latency, ...] | None]]:
    """Of each run: with weights that stay, and with weights that stream where it can."""
    parts = [
        partition(
            model.proto, (model.graph,), _cuts(runs, is_streamed=streams),
            scratch / f"{streams}", model.settings, model.part.parent,
        )
        for streams in (False, True)
    ]  # fmt: skip
    pairs = list(zip(*parts, strict=True))
    times = [timed(model, pairs, feeds, plan) for feeds in model.feeds]
    found = []
    for number in range(len(runs)):
        kept = [latency(on[number][0]) for on in times]
        ways = [on[number][1] for on in times]
        moved = [latency(way) for way in ways if way is not None]
        found.append((tuple(kept), tuple(moved) if len(moved) == len(ways) else None))
    return found


def timed(
    model: Model, pairs: Sequence[tuple[Any, Any]], feeds: Mapping[str, Any], plan: Plan
) -> list[tuple[Timed, Timed | None]]:
    """Both of each pair, in a process of its own."""
    bounds = MANY_RUNS.for_size(2 * plan.model.size_bytes)
    sandbox = Sandbox("timing the parts", str(model.part), bounds)
    return sandbox.call(time_streams, pairs, dict(feeds), SECONDS)


def latency(part: Timed) -> Latency:
    """Of one part in a run of the whole.

    The weights of the next part come while it computes, on the same cores: at best beside it, at
    worst one after the other; expected is that they share the cores.
    """
    low, middle, high = part.compute
    fetch = part.fetch
    shared = middle + fetch[1] / usable_cores()
    return Latency(max(low, fetch[0]), max(shared, fetch[1]), high + fetch[2])


def shares_of(plan: Plan) -> list[float]:
    """How often each workload shape occurs, of all."""
    total = sum(shape.weight for shape in plan.workload)
    return [shape.weight / total for shape in plan.workload]


def solve_residency(
    priced: Sequence[Run],
    shares: Sequence[float],
    model: Model,
    limit: int,
    more: int,
    plan: Plan,
    error: float | None = None,
    alive: Alive = NOTHING_ALIVE,
) -> tuple[Solution, Problem]:
    """Which way each run takes, whether it keeps its weights, and what is made again.

    Args:
        more: bytes that a process was seen to take besides what is counted. Where nothing keeps
            the limit with them, the plan of the least memory: another process may take less.
        error: what errors may add up to.
        alive: activations, run by run; nothing: their peak counts all the time.

    Raises:
        InfeasibleError: with the least memory that suffices.
    """
    from planner.solve.solve import solve

    fixed = model.runtime_bytes + more + (0 if alive.holds else model.activation_bytes)
    problem = pose_residency(priced, shares, fixed, limit, (Objective.LATENCY,), error, *alive)
    seed = plan.solver.seed
    solution = solve(problem, time_limit_s=_SOLVE_S, gap=_GAP, seed=seed)
    if solution.status is not Status.INFEASIBLE and solution.totals is not None:
        return solution, problem
    objectives = (Objective.MEMORY, Objective.LATENCY)
    least = pose_residency(priced, shares, fixed, None, objectives, error, *alive)
    smallest = solve(least, time_limit_s=_SOLVE_S, gap=_GAP, seed=seed)
    found = smallest.totals
    needed = max(found.stage_memory_size_bytes) if found is not None else None
    if needed is not None and needed - more <= limit:
        return smallest, least
    largest = max((each.chunk.fetched_size_bytes for run in priced for each in run), default=0)
    raise InfeasibleError(
        f"{format_size(limit)} are not enough even where weights stream: two parts' weights are "
        f"there at a time (the largest: {format_size(largest)}), beside a runtime of "
        f"{format_size(model.runtime_bytes)} and activations of "
        f"{format_size(model.activation_bytes)}",
        where=MEMORY_KEY,
        fix="a larger --memory" if needed is None else f"--memory {whole_mib(needed)}",
    )
