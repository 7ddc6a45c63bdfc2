"""Tensors that may be made again: which, how long that takes, and what lives how long without."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from planner.emit.partition import StageCut, partition
from planner.ir.problem import Latency
from planner.place.alive import activation_holds
from planner.place.chunks import Chunk
from planner.place.recompute import Again, candidates, copy_name, fits
from planner.place.residency import Copy
from planner.spec.plan import Plan
from planner.steps.streaming.decide import NOTHING_ALIVE, Alive, latency, timed
from planner.steps.streaming.model import Model
from planner.steps.streaming.ways import Way
from planner.steps.workspace import Workspace


def offered(ways: Sequence[Way]) -> list[Again]:
    """What may be made again in whatever way runs are written."""
    base = ways[0].model
    found = candidates(base.graph, base.sizes)
    return [each for each in found if all(fits(w.model.graph, each.recorded) for w in ways)]


def narrowed(ways: Sequence[Way]) -> tuple[Way, ...]:
    """The ways that rewrite nothing that may be made again."""
    base = ways[0].model
    found = [each.recorded for each in candidates(base.graph, base.sizes)]
    return tuple(way for way in ways if all(fits(way.model.graph, one) for one in found))


def alive_of(
    model: Model, runs: Sequence[Chunk], again: Sequence[Again], plan: Plan, work: Workspace
) -> Alive:
    """Activations run by run, with what may be made again as choices; timed on every shape."""
    if not again:
        return NOTHING_ALIVE
    number_of = {op: number for number, run in enumerate(runs) for op in run.ops}
    places = [number_of[op.name] for op in model.graph.ops]
    until = {each.recorded.tensor: places[each.after] for each in again}
    holds = activation_holds(model.graph, [run.ops for run in runs], model.sizes, until)
    times = _timed(model, runs, again, plan, work)
    copies = [
        Copy(
            name=copy_name("keep", each.recorded.tensor),
            after=places[each.after],
            before=places[each.before],
            last=places[each.last],
            size_bytes=each.size_bytes,
            scratch_size_bytes=each.scratch_size_bytes,
            latency=row,
        )
        for each, row in zip(again, times, strict=True)
    ]
    return Alive(holds, copies)


def stages_of(again: Sequence[Again]) -> dict[str, list[tuple[str, ...]]]:
    """First late reader -> operators of the parts that stand before its run."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for each in again:
        found.setdefault(each.recorded.readers[0], []).append(_copies(each))
    return found


def _timed(
    model: Model, runs: Sequence[Chunk], again: Sequence[Again], plan: Plan, work: Workspace
) -> list[tuple[Latency, ...]]:
    """How long making each again takes, per workload shape: all of them in one model."""
    made = model.with_copies([each.recorded for each in again])
    before = stages_of(again)
    cuts: list[StageCut] = []
    number_of: dict[tuple[str, ...], int] = {}
    counter = count()
    for run in runs:
        for ops in (ops for op in run.ops for ops in before.get(op, ())):
            number_of[ops] = next(counter)
            cuts.append(StageCut((0,), frozenset(ops)))
        next(counter)
        cuts.append(StageCut((0,), frozenset(run.ops)))
    folder = work.scratch / f"again-{len(again)}"
    parts = partition(
        made.proto, (made.graph,), cuts, folder, made.settings, made.part.parent,
        maps_weights=True,
    )  # fmt: skip
    spans = [timed(made, [(part, None) for part in parts], feeds, plan) for feeds in made.feeds]
    numbers = [number_of[_copies(each)] for each in again]
    return [tuple(latency(on[number][0]) for on in spans) for number in numbers]


def _copies(each: Again) -> tuple[str, ...]:
    """The operators that make it again."""
    return tuple(copy_name(op, each.recorded.tensor) for op in each.recorded.ops)
