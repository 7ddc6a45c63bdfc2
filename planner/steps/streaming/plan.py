"""The way in: from a plan that keeps all weights in memory to one that keeps the promise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planner.emit.blueprint import Part, Talk
from planner.errors import InfeasibleError
from planner.spec.execution import StageExecution
from planner.spec.plan import Estimate, Plan, Promise
from planner.steps.building import part_of
from planner.steps.case import Case
from planner.steps.files import files_of
from planner.steps.reading import planned_model
from planner.steps.streaming.again import alive_of, narrowed, offered
from planner.steps.streaming.decide import latency, price, runs_of, timed
from planner.steps.streaming.document import Fit, documented, record
from planner.steps.streaming.fit import Question, fitting, recompute_us
from planner.steps.streaming.formats import with_formats
from planner.steps.streaming.mix import Alone, Jointly, Mixer
from planner.steps.streaming.model import Model, open_model
from planner.steps.streaming.ways import Way
from planner.steps.workspace import Workspace
from planner.units import format_duration, format_size

_MODEL_SHARE = 0.15
"""How far sums of parts are off what they take one after another."""


def stream(
    plan: Plan, promise: Promise, path: Path, work: Workspace, case: Case | None = None
) -> Plan:
    """The plan with as many weights in memory as the promise allows.

    Args:
        plan: for the same model without a limit on memory.
        case: what else operators may be; None: formats stay as they are.

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
    mixer: Mixer
    if case is None:
        mixer = Alone(open_model(wished, part_of(wished, path, files, work), files, work))
    else:
        mixer = Jointly(case, wished, files, work)
    base = mixer.ways[0].model
    try:
        asked, fit = _decided(wished, mixer, mixer.ways, limit, work)
    except InfeasibleError:
        fewer = narrowed(mixer.ways)
        if len(fewer) == len(mixer.ways):
            raise
        work.reporter.note("fewer formats, so that more activations may be made again")
        asked, fit = _decided(wished, mixer, fewer, limit, work)
    predicted = _predicted(wished, fit.mix.model, fit.parts)
    sizes = record(base, fit, plan, recompute_us(asked, fit))
    made = documented(wished, fit, predicted, sizes)
    if isinstance(mixer, Jointly):
        made = with_formats(made, fit, mixer)
    _refuse_slow(made, promise)
    return made


def _decided(
    plan: Plan, mixer: Mixer, ways: Sequence[Way], limit: int, work: Workspace
) -> tuple[Question, Fit]:
    base = ways[0].model
    again = offered(ways)
    runs = runs_of(base, limit, again)
    priced = price(ways, runs, plan, work)
    alive = alive_of(base, runs, again, plan, work)
    asked = Question(plan, base, runs, priced, limit, again, alive)
    return asked, fitting(asked, mixer, work)


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
