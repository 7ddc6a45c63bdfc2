"""What was decided, in plan.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.emit.blueprint import Part, Talk
from planner.ir.problem import Problem
from planner.ir.solution import Solution
from planner.place.chunks import Chunk
from planner.place.recompute import Again
from planner.place.residency import Priced
from planner.spec.conflict import MEMORY_KEY
from planner.spec.execution import StageExecution
from planner.spec.plan import Decision, Estimate, Plan
from planner.spec.streaming import StreamingPlan
from planner.steps.streaming.mix import Mix
from planner.steps.streaming.model import Model

_MEMORY_SHARE = 0.05
"""How far the memory of one process is from another's: what allocators keep differs."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A choice of what stays, built."""

    solution: Solution
    problem: Problem
    runs: tuple[Chunk, ...]
    """Of the model in its own formats, or in those that were chosen before."""
    chosen: tuple[Priced, ...]
    """The way that each run takes."""
    streams: tuple[bool, ...]
    """Of each run of operators, whether its weights stream."""
    execution: tuple[StageExecution, ...]
    parts: tuple[Part | Talk, ...]
    peak_size_bytes: int | None
    """Measured: of a process that runs it. None where the system does not tell."""
    rounds: int
    mix: Mix
    """What was built."""
    counted_bytes: int
    """Of the process, as the Problem counts."""
    again: tuple[Again, ...] = ()
    """What is made again."""


def execution_of(runs: Sequence[Chunk], streams: Sequence[bool]) -> tuple[StageExecution, ...]:
    """Parts in order; runs in a row that keep their weights are one."""
    found: list[StageExecution] = []
    for run, is_streamed in zip(runs, streams, strict=True):
        last = found[-1] if found else None
        if last is not None and not last.is_streamed and not is_streamed:
            found[-1] = last.model_copy(update={"ops": (*last.ops, *run.ops)})
            continue
        found.append(StageExecution(ops=run.ops, is_streamed=is_streamed))
    return tuple(found)


def record(model: Model, fit: Fit, plan: Plan, recompute_us: Mapping[str, float]) -> StreamingPlan:
    """Bytes by what they are for."""
    priced, streams = fit.chosen, fit.streams
    pairs = list(zip(priced, streams, strict=True))
    sizes = [each.chunk.fetched_size_bytes if moves else 0 for each, moves in pairs]
    following = [*sizes[1:], 0 if len(sizes) == 1 else sizes[0]]
    resident = sum(each.weight_size_bytes(is_streamed=moves) for each, moves in pairs)
    buffers = max(map(sum, zip(sizes, following, strict=True)), default=0)
    everything = sum(each.weight_size_bytes(is_streamed=False) for each in priced)
    activations = model.activation_bytes + max(
        (each.workspace_size_bytes for each in priced), default=0
    )
    return StreamingPlan(
        runtime_size_bytes=model.runtime_bytes,
        resident_size_bytes=resident,
        buffer_size_bytes=buffers,
        activation_size_bytes=fit.counted_bytes - model.runtime_bytes - resident - buffers,
        streamed_size_bytes=sum(sizes),
        table_size_bytes=sum(each.chunk.table_size_bytes for each, moves in pairs if moves),
        parts=len(fit.execution),
        streamed_parts=sum(streams),
        resident_us={
            shape.name: sum(each.resident[n].expected_us for each in priced)
            for n, shape in enumerate(plan.workload)
        },
        recomputed=tuple(each.recorded for each in fit.again),
        recompute_us=dict(recompute_us) if fit.again else None,
        whole_size_bytes=model.runtime_bytes + activations + everything,
    )


def documented(plan: Plan, fit: Fit, predicted: dict[str, Estimate], sizes: StreamingPlan) -> Plan:
    """The plan with all that streaming changes."""
    tails = {
        name: plan.prediction.latency_slo_us[name].expected / found.expected
        for name, found in plan.prediction.latency_p50_us.items()
    }
    size = float(fit.peak_size_bytes or sizes.size_bytes)
    prediction = plan.prediction.model_copy(
        update={
            "latency_p50_us": predicted,
            "latency_slo_us": {n: found.scaled(tails[n]) for n, found in predicted.items()},
            "memory_size_bytes": Estimate(
                low=size * (1 - _MEMORY_SHARE),
                expected=size,
                high=size * (1 + _MEMORY_SHARE),
                source="modelled" if fit.peak_size_bytes is None else "measured",
            ),
        }
    )
    pairs = zip(fit.runs, fit.streams, strict=True)
    away = {op for run, is_streamed in pairs if is_streamed for op in run.ops}
    report = plan.solver.model_copy(
        update={
            "binding": tuple(dict.fromkeys((*plan.solver.binding, MEMORY_KEY))),
            "rounds": plan.solver.rounds + fit.rounds,
            "options": plan.solver.options + len(fit.problem.options),
            "gap": max(plan.solver.gap or 0.0, fit.solution.gap or 0.0),
        }
    )
    return plan.model_copy(
        update={
            "execution": fit.execution,
            "prediction": prediction,
            "streaming": sizes,
            "solver": report,
            "machine_state_us": None,
            "decisions": tuple(_told(each, each.op in away) for each in plan.decisions),
        }
    )


def _told(decision: Decision, is_streamed: bool) -> Decision:
    if not is_streamed:
        return decision
    return decision.model_copy(update={"reason": f"{decision.reason}; its weights stream"})
