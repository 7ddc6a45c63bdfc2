"""The guard: the plan, the best uniform variants and plain ONNX Runtime, timed side by side.

Whatever the model of costs says, the variant that ships is the one that was measured to be the
best within the constraints; and it is plain ONNX Runtime unless something beat it by more than two
identical runs of plain ONNX Runtime differ from each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.errors import ModelError, VerificationError
from planner.profiling.race import Contestant
from planner.spec.constraints import Constraints
from planner.spec.plan import Estimate, GuardReport, Timing
from planner.spec.session import SessionSettings
from planner.steps.accuracy import Measured
from planner.steps.case import Case
from planner.steps.raced import CONTROL, PLAIN, Raced, refuse_low_rate
from planner.steps.racing import METHOD_VERSION, race
from planner.steps.shapes import BoundShape
from planner.steps.variants import Variant
from planner.steps.winner import Kind, pick
from planner.steps.workspace import digest
from planner.units import format_duration

SHELL = "plain engine"
"""The same graph and settings called as an engine calls them: what ships where nothing beats it."""
ROUNDS = 200
BUDGET_S = 8.0


@dataclass(frozen=True, slots=True)
class Entrant:
    """A variant that may ship: built, within its accuracy budget."""

    name: str
    kind: Kind
    variant: Variant
    session: SessionSettings
    setting: int
    predicted: tuple[Estimate, ...]
    """p50 per workload shape, microseconds."""
    expected_us: float
    """The same over the whole workload."""
    measured: Measured


@dataclass(frozen=True, slots=True)
class Outcome:
    """Which entrant ships (None: plain ONNX Runtime) and the guard's report."""

    winner: Entrant | None
    report: GuardReport


def contest(case: Case, entrants: Sequence[Entrant]) -> Outcome:
    """Times everyone against plain ONNX Runtime on every shape; kept in the store.

    Raises:
        VerificationError: nothing keeps the promised latency or throughput when it is measured, or
            nothing that keeps pinned formats could be run.
    """
    rows = [_raced(case, shape, entrants) for shape in case.prepared.shapes]
    raced = Raced(case.prepared.shapes, rows, case.constraints.promise.latency_percentile)
    everyone = (PLAIN, CONTROL, SHELL, *(entrant.name for entrant in entrants))
    timings = {name: raced.timing(name) for name in raced.ran(everyone)}
    winner, reason = _winner(case, entrants, timings, raced.threshold)
    shipped = winner.name if winner else SHELL if SHELL in timings else PLAIN
    _refuse_broken_promise(case.constraints, timings[shipped], timings)
    return Outcome(winner, raced.report(shipped, tuple(timings.values()), reason))


def _raced(case: Case, shape: BoundShape, entrants: Sequence[Entrant]) -> dict[str, Any]:
    """Everyone's times on one shape, by name.

    Raises:
        ModelError: plain ONNX Runtime cannot run the model.
    """
    constraints, work, prepared = case.constraints, case.work, case.prepared
    device_digest = case.bench.environment.device_digest
    names = [(e.name, e.variant.executable.key, e.session.name) for e in entrants]
    key = digest(
        "contest",
        METHOD_VERSION,
        prepared.loaded.sha256,
        shape.feeds_digest,
        names,
        device_digest,
        ROUNDS,
    )

    def compute() -> dict[str, Any]:
        work.reporter.stage("guard")
        case.bench.rest()
        plain = SessionSettings()
        contestants = [
            Contestant(PLAIN, prepared.plain_path, plain, call="plain"),
            Contestant(CONTROL, prepared.plain_path, plain, call="plain"),
            Contestant(SHELL, prepared.plain_path, plain),
            *(Contestant(e.name, e.variant.executable.build(), e.session) for e in entrants),
        ]
        return race(
            contestants, shape.feeds_path, work,
            rounds=ROUNDS, budget_s=BUDGET_S, model_size_bytes=prepared.loaded.size_bytes,
        )  # fmt: skip

    raced: dict[str, Any] = work.once("contest", key, compute)
    if PLAIN not in raced or CONTROL not in raced:
        work.store.forget(key)
        raise ModelError(
            "plain ONNX Runtime cannot run the model in a process of its own",
            where=str(constraints.model),
            fix="run it once with ONNX Runtime alone: the reason shows there",
        )
    return raced


def _winner(
    case: Case,
    entrants: Sequence[Entrant],
    timings: Mapping[str, Timing],
    threshold: float,
) -> tuple[Entrant | None, str]:
    if case.constraints.objective == "error":
        promise = case.constraints.promise
        entrants = least_wrong(entrants, timings, promise.latency_us, promise.throughput_per_s)
    kinds = {entrant.name: entrant.kind for entrant in entrants}
    is_pinned = bool(case.choices.bound)
    name, reason = pick(
        kinds, timings, threshold,
        ground=timings[SHELL].ratio if SHELL in timings else 1.0,
        wants_memory=case.constraints.objective == "memory",
        is_pinned=is_pinned,
    )  # fmt: skip
    if name is None and is_pinned:
        raise VerificationError(
            f"nothing that keeps what is pinned can ship: {reason}",
            where=str(case.constraints.model),
            fix="pin other formats, or none",
        )
    return next((entrant for entrant in entrants if entrant.name == name), None), reason


def least_wrong(
    entrants: Sequence[Entrant],
    timings: Mapping[str, Timing],
    limit_us: float | None,
    rate_per_s: float | None = None,
) -> list[Entrant]:
    """Those of least measured error among the ones that keep the promised latency and throughput:
    where the error is what was to be least, being faster is no reason to ship another."""

    def keeps(found: Timing) -> bool:
        is_in_time = limit_us is None or found.slo_us <= limit_us
        return is_in_time and (rate_per_s is None or 1e6 / found.p50_us >= rate_per_s)

    ran = [entrant for entrant in entrants if entrant.name in timings]
    kept = [entrant for entrant in ran if keeps(timings[entrant.name])] or ran
    least = min((entrant.measured.error for entrant in kept), default=0.0)
    return [entrant for entrant in kept if entrant.measured.error <= least]


def _refuse_broken_promise(
    constraints: Constraints, shipped: Timing, timings: Mapping[str, Timing]
) -> None:
    refuse_low_rate(constraints.promise.throughput_per_s, shipped, timings)
    limit = constraints.promise.latency_us
    if limit is None or shipped.slo_us <= limit:
        return
    percentile = constraints.promise.latency_percentile
    best = min(timings.values(), key=lambda timing: timing.slo_us)
    slowest = max(shipped.shapes, key=lambda name: shipped.shapes[name].slo_us)
    raise VerificationError(
        f"measured p{percentile:g} is {format_duration(shipped.slo_us)} on the shape {slowest!r}, "
        f"promised {format_duration(limit)}",
        where=shipped.name,
        fix=f"the best variant measured is {best.name}: {format_duration(best.slo_us)}",
    )
