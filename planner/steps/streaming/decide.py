"""Which runs of operators keep their weights: each timed both ways, then one Problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.emit.partition import StageCut, partition
from planner.errors import InfeasibleError
from planner.graph.sandbox import Bounds, Sandbox
from planner.ir.problem import Latency, Objective, Problem
from planner.ir.solution import Solution, Status
from planner.place.chunks import Chunk, chunks
from planner.place.residency import Priced, pose_residency
from planner.profiling.streams import Timed, time_streams
from planner.runtime.fingerprint import usable_cores
from planner.spec.plan import Plan
from planner.steps.streaming.model import Model
from planner.steps.workspace import Workspace
from planner.units import format_size

_SLOT_SHARE = 0.1
"""Of what the process may hold besides its runtime: what one part fetches, about. Two are there at
a time; smaller ones would leave more room for weights that stay, and cost more calls."""
_MOST_PARTS = 96
"""A session and a call each."""
SECONDS = 0.2
"""Each part and each way is timed for, at most."""
_SOLVE_S = 20.0
_GAP = 0.001


def runs_of(model: Model, limit: int) -> tuple[Chunk, ...]:
    """Runs of operators whose weights come and go together.

    Raises:
        InfeasibleError: no room besides the runtime and the activations.
    """
    room = limit - model.runtime_bytes - model.activation_bytes
    if room <= 0:
        raise InfeasibleError(
            f"the runtime takes {format_size(model.runtime_bytes)} and activations "
            f"{format_size(model.activation_bytes)}: {format_size(limit)} leave no room for any "
            "weight, even where all of them stream",
            where="target.memory",
            fix="a larger --memory, or smaller shapes",
        )
    total = sum(model.fetched.values())
    most = int(max(_SLOT_SHARE * room, total / _MOST_PARTS))
    return chunks(model.graph, model.fetched, most, model.tables)


def _cuts(runs: Sequence[Chunk], *, is_streamed: bool) -> list[StageCut]:
    return [StageCut((0,), frozenset(run.ops), is_streamed=is_streamed) for run in runs]


def price(model: Model, runs: Sequence[Chunk], plan: Plan, work: Workspace) -> list[Priced]:
    """Every run, timed both ways on every shape."""
    parts = [
        partition(
            model.proto, (model.graph,), _cuts(runs, is_streamed=streams),
            work.scratch / f"runs-{streams}", model.settings, model.part.parent,
        )
        for streams in (False, True)
    ]  # fmt: skip
    pairs = list(zip(*parts, strict=True))
    times = [timed(model, pairs, feeds, plan) for feeds in model.feeds]
    found = []
    for number, run in enumerate(runs):
        kept = [latency(on[number][0]) for on in times]
        ways = [on[number][1] for on in times]
        moved = [latency(way) for way in ways if way is not None]
        found.append(Priced(run, tuple(kept), tuple(moved) if len(moved) == len(ways) else None))
    return found


def timed(
    model: Model, pairs: Sequence[tuple[Any, Any]], feeds: Mapping[str, Any], plan: Plan
) -> list[tuple[Timed, Timed | None]]:
    """Both of each pair, in a process of its own."""
    bounds = Bounds().for_size(2 * plan.model.size_bytes)
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
    priced: Sequence[Priced],
    shares: Sequence[float],
    model: Model,
    limit: int,
    more: int,
    plan: Plan,
) -> tuple[Solution, Problem]:
    """Which runs keep their weights.

    Args:
        more: bytes that a process was seen to take besides what is counted. Where nothing keeps
            the limit with them, the plan of the least memory: another process may take less.

    Raises:
        InfeasibleError: with the least memory that suffices.
    """
    from planner.solve.solve import solve

    fixed = model.runtime_bytes + model.activation_bytes + more
    problem = pose_residency(priced, shares, fixed, limit)
    seed = plan.solver.seed
    solution = solve(problem, time_limit_s=_SOLVE_S, gap=_GAP, seed=seed)
    if solution.status is not Status.INFEASIBLE and solution.totals is not None:
        return solution, problem
    objectives = (Objective.MEMORY, Objective.LATENCY)
    least = pose_residency(priced, shares, fixed, None, objectives)
    smallest = solve(least, time_limit_s=_SOLVE_S, gap=_GAP, seed=seed)
    found = smallest.totals
    needed = max(found.stage_memory_size_bytes) if found is not None else None
    if needed is not None and needed - more <= limit:
        return smallest, least
    largest = max((each.chunk.fetched_size_bytes for each in priced), default=0)
    raise InfeasibleError(
        f"{format_size(limit)} are not enough even where weights stream: two parts' weights are "
        f"there at a time (the largest: {format_size(largest)}), beside a runtime of "
        f"{format_size(model.runtime_bytes)} and activations of "
        f"{format_size(model.activation_bytes)}",
        where="target.memory",
        fix="a larger --memory" if needed is None else f"--memory {_whole_mib(needed)}MiB",
    )


def _whole_mib(size_bytes: int) -> int:
    return -(-size_bytes // 2**20)
