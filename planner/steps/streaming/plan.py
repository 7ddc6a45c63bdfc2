"""The way in: from a plan that keeps all weights in memory to one that keeps the promise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planner.emit.engine import Part, Talk
from planner.emit.partition import partition, stage_cuts
from planner.errors import InfeasibleError
from planner.place.residency import STREAMED, Priced
from planner.spec.execution import StageExecution
from planner.spec.plan import Estimate, Plan, Promise
from planner.steps.building import part_of
from planner.steps.files import files_of
from planner.steps.process import peak_bytes
from planner.steps.reading import planned_model
from planner.steps.streaming.decide import (
    latency,
    price,
    runs_of,
    shares_of,
    solve_residency,
    timed,
)
from planner.steps.streaming.document import Fit, documented, execution_of, record
from planner.steps.streaming.model import Model, open_model
from planner.steps.workspace import Workspace
from planner.units import format_duration, format_size

_MOST_ROUNDS = 5
_MODEL_SHARE = 0.15
"""How far sums of parts are off what they take one after another."""


def stream(plan: Plan, promise: Promise, path: Path, work: Workspace) -> Plan:
    """The plan with as many weights in memory as the promise allows.

    Args:
        plan: for the same model without a limit on memory.

    Raises:
        InfeasibleError: the limit leaves no room even where everything streams, or with it the
            promised latency cannot be kept.
    """
    limit = promise.memory_size_bytes
    assert limit is not None, "streaming answers a limit on memory"
    work.reporter.stage("stream")
    loaded = planned_model(plan.model, path, work)
    files = files_of(plan, loaded, work)
    settings = plan.settings.model_copy(update={"spinning": False})
    wished = plan.model_copy(
        update={
            "simplified": files.is_simplified,
            "shipped": "plan",
            "settings": settings,
            "execution": (StageExecution(ops=("?",)),),
            "guard": None,
            "digest": "",
            "promise": promise,
        }
    )
    model = open_model(wished, part_of(wished, path, files, work), files, work)
    priced = price(model, runs_of(model, limit), plan, work)
    fit = _fitting(wished, model, priced, limit, work)
    predicted = _predicted(wished, model, fit.parts)
    sizes = record(model, priced, fit.streams, plan)
    made = documented(wished, fit, predicted, sizes)
    _refuse_slow(made, promise)
    return made


def _fitting(
    plan: Plan, model: Model, priced: Sequence[Priced], limit: int, work: Workspace
) -> Fit:
    """Solved, built and measured, until a process that runs it stays within the limit.

    What is counted leaves out what allocators and threads keep, and pages of tables: the next plan
    is solved with as much besides what is counted as the last process took. So a plan that took
    too much is never solved again, and ever less is counted.

    Raises:
        InfeasibleError: with the memory that the smallest plan took.
    """
    shares = shares_of(plan)
    more = 0
    peaks: list[int] = []
    tried: set[tuple[bool, ...]] = set()
    for number in range(_MOST_ROUNDS):
        solution, problem = solve_residency(priced, shares, model, limit, more, plan)
        chosen = set(solution.chosen)
        streams = tuple(f"{name}:{STREAMED}" in chosen for name in problem.ops)
        if streams in tried:
            break
        tried.add(streams)
        execution = execution_of([each.chunk for each in priced], streams)
        folder = work.scratch / f"streamed-{number}"
        parts = partition(
            model.proto, (model.graph,), stage_cuts(model.proto, (model.graph,), execution),
            folder, model.settings, model.part.parent, maps_weights=True,
        )  # fmt: skip
        specs = model.inputs, model.outputs
        peak = peak_bytes(plan, parts, specs, model.feeds, folder)
        fit = Fit(solution, problem, streams, execution, parts, peak, number + 1)
        if peak is None or peak <= limit:
            return fit
        peaks.append(peak)
        more = max(more, peak - record(model, priced, streams, plan).size_bytes)
        work.reporter.note(
            f"{format_size(peak)} were taken of {format_size(limit)}: solving again with "
            f"{format_size(more)} besides what is counted"
        )
    needed = min(peaks)
    raise InfeasibleError(
        f"a process takes {format_size(needed)} even where weights stream, "
        f"{format_size(more)} more than is counted ({len(peaks)} plans were measured)",
        where="target.memory",
        fix=f"--memory {-(-needed // 2**20)}MiB",
    )


def _predicted(plan: Plan, model: Model, parts: Sequence[Part | Talk]) -> dict[str, Estimate]:
    pairs = [(part, None) for part in parts]
    found = {}
    for shape, feeds in zip(plan.workload, model.feeds, strict=True):
        spans = [latency(part) for part, _ in timed(model, pairs, feeds, plan)]
        found[shape.name] = Estimate(
            low=sum(span.low_us for span in spans) * (1 - _MODEL_SHARE),
            expected=sum(span.expected_us for span in spans),
            high=sum(span.high_us for span in spans) * (1 + _MODEL_SHARE),
            source="interpolated",
        )
    return found


def _refuse_slow(plan: Plan, promise: Promise) -> None:
    """A latency that holds with all weights in memory need not hold with weights that stream."""
    limit = promise.latency_us
    worst = max((found.expected for found in plan.prediction.latency_slo_us.values()), default=0.0)
    if limit is None or worst <= limit:
        return
    assert promise.memory_size_bytes is not None
    raise InfeasibleError(
        f"with {format_size(promise.memory_size_bytes)} weights must stream, and p"
        f"{promise.latency_percentile:g} then takes {format_duration(worst)}, not "
        f"{format_duration(limit)}",
        where="target.memory, slo.latency",
        fix=f"--slo {format_duration(worst)}, or a larger --memory",
    )
