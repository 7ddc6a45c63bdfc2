"""When a prediction counts as broken, and what a disturbed machine is compared at."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from planner.spec.manifest import GoldenCheck, Manifest
from planner.spec.plan import Estimate, Plan
from planner.steps import measured
from planner.steps.verifying import keeps_prediction
from planner.steps.workspace import Workspace


@pytest.mark.parametrize(
    ("measured_us", "predicted_us", "is_kept"),
    [
        (1_400.0, 1_000.0, True),
        (1_600.0, 1_000.0, False),
        (13.0, 4.7, True),
        (15.6, 4.7, False),
        (40.0, 25.0, False),
    ],
)
def test_half_as_much_again_or_the_noise_of_a_call(
    measured_us: float, predicted_us: float, is_kept: bool
) -> None:
    assert keeps_prediction(measured_us, predicted_us) is is_kept


@pytest.mark.parametrize("slow_share", [0.3, 0.5, 0.7])
def test_undisturbed_rounds_are_compared_whatever_the_median_is(
    slow_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of 100 us where the probe takes 50; neighbours slow both down, not together."""
    rng = np.random.default_rng(3)
    own = np.where(rng.random(400) < slow_share, 160.0, 100.0) * rng.uniform(0.99, 1.01, 400)
    probe = np.where(rng.random(400) < slow_share, 90.0, 50.0) * rng.uniform(0.99, 1.01, 400)
    raced = {
        "percentiles_us": {"50": float(np.median(own)), "99": 165.0},
        "reference_us": float(np.median(probe)),
        "medians_us": own.tolist(),
        "beside_us": probe.tolist(),
        "alone_us": probe.tolist(),
    }
    monkeypatch.setattr(measured, "race", lambda *_, **__: {"engine": raced})
    estimate = Estimate(low=150.0, expected=160.0, high=170.0, source="measured")
    plan = SimpleNamespace(
        model=SimpleNamespace(size_bytes=1),
        prediction=SimpleNamespace(latency_p50_us={"default": estimate}),
        promise=SimpleNamespace(latency_percentile=99.0),
        machine_state_us=90.0,  # planned where the probe took that long
        machine_alone_us=90.0,
        machine_exponent=0.3,
        machine_pace_exponent=0.8,
    )
    segment = SimpleNamespace(file="m", settings=None)
    manifest = SimpleNamespace(ranks=1, is_streamed=False, ort_segments=(segment,))
    golden = SimpleNamespace(inputs="i", shape="default")
    found = measured.measured_on(
        Path(),
        cast("Manifest", manifest),
        cast("GoldenCheck", golden),
        cast("Plan", plan),
        cast("Workspace", cast("Any", None)),
    )
    assert found.undisturbed is not None
    assert found.undisturbed.measured_us == pytest.approx(100.0, rel=0.02)
    assert found.undisturbed.predicted.expected == pytest.approx(160 * (50 / 90) ** 0.8, rel=0.02)
