"""An engine timed here and now, beside what its plan predicts for a machine as fast as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.cost import tempo
from planner.cost.state import State
from planner.cost.tempo import Feeling
from planner.profiling.race import Contestant
from planner.profiling.timing import FAST_SHARE
from planner.runtime.measure import measure
from planner.spec.manifest import GoldenCheck, Manifest
from planner.spec.plan import Estimate, Plan
from planner.spec.verdict import Undisturbed
from planner.steps.racing import at_percentile, race
from planner.steps.workspace import Workspace

_ROUNDS = 600
_BUDGET_S = 4.0


@dataclass(frozen=True, slots=True)
class Measured:
    """An engine on one workload shape, microseconds."""

    shape: str
    p50: Estimate
    slo_us: float
    """At the promise's percentile."""
    predicted: Estimate
    """p50, at the machine's present speed."""
    factor: float
    """How much slower the machine is than when it was planned."""
    undisturbed: Undisturbed | None = None


def measured_on(
    engine: Path, manifest: Manifest, golden: GoldenCheck, plan: Plan, work: Workspace
) -> Measured:
    """Times the engine's part on the inputs of one golden check."""
    if manifest.ranks > 1 or manifest.is_streamed or len(manifest.ort_segments) > 1:
        return _as_a_whole(engine, golden, plan)
    segment = manifest.ort_segments[0]
    contestant = Contestant("engine", engine / segment.file, segment.settings)
    raced = race(
        [contestant], engine / golden.inputs, work, rounds=_ROUNDS, budget_s=_BUDGET_S,
        model_size_bytes=plan.model.size_bytes,
    )  # fmt: skip
    found = raced["engine"]
    p50_us = at_percentile(found, 50.0)
    low, high = np.quantile(found["medians_us"], (0.25, 0.75))
    predicted = plan.prediction.latency_p50_us[golden.shape]
    here = _state(found, 0.5)
    planned = State(plan.machine_alone_us or 0.0, plan.machine_state_us or 0.0)
    felt = Feeling(plan.machine_pace_exponent, plan.machine_exponent)
    return Measured(
        shape=golden.shape,
        p50=Estimate(
            low=min(low, p50_us), expected=p50_us, high=max(high, p50_us), source="measured"
        ),
        slo_us=at_percentile(found, plan.promise.latency_percentile),
        predicted=tempo.at_state(predicted, here, planned, felt),
        factor=tempo.slowness(here, planned, felt),
        undisturbed=Undisturbed(
            predicted=tempo.at_state(predicted, _state(found, FAST_SHARE), planned, felt),
            measured_us=float(np.quantile(found["medians_us"], FAST_SHARE)),
        ),
    )


def _state(found: Mapping[str, Any], share: float) -> State:
    """The reference probe at a quantile of the rounds."""
    alone_us = found["alone_us"] or [0.0]
    return State(*(float(np.quantile(us, share)) for us in (alone_us, found["beside_us"])))


def _as_a_whole(engine: Path, golden: GoldenCheck, plan: Plan) -> Measured:
    """Times an engine of several parts through its own session, in a process of its own: ranks
    cannot be stopped while others run, so no reference probe tells the machine's speed."""
    found = measure(engine, engine / golden.inputs, seconds=_BUDGET_S)
    low, high = found.percentile_us(25.0), found.percentile_us(75.0)
    return Measured(
        shape=golden.shape,
        p50=Estimate(low=low, expected=found.p50_us, high=high, source="measured"),
        slo_us=found.percentile_us(plan.promise.latency_percentile),
        predicted=plan.prediction.latency_p50_us[golden.shape],
        factor=1.0,
    )
