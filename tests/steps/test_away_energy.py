"""Energy as an objective for devices known by their profiles."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from planner import pipeline
from planner.ir.problem import Latency
from planner.place.energy import Power
from planner.report.placement import summary
from planner.spec.constraints import Constraints
from planner.spec.plan import Plan
from tests.place.models import shapes, transformer


def test_energy_is_power_times_the_time_of_all_devices() -> None:
    power = Power(400.0, (1.0, 10.0))
    row = (Latency(1e5, 2e5, 3e5), Latency(1e3, 2e3, 3e3))
    assert power.joules(row, 4) == pytest.approx(4 * 400.0 * (0.2 + 10 * 0.002))
    assert power.joules((None, None), 4) == 0.0


def planned(folder: Path, objective: str) -> Plan:
    """Many tokens of a wide model: sharding saves time, not energy."""
    path = folder / f"{objective}.onnx"
    onnx.save(transformer(1, 2048, 16), path)
    given = {
        "model": path, "no_weights": True, "objective": objective,
        "workload": [{"shapes": shapes(2048, 0, 2048, 16)}],
        "target": {"device": "a100-sxm-80gb", "gpus": "1..4"},
        "accuracy": {"max_error": 1e-6},
        "solver": {"time_limit": "20s"},
    }  # fmt: skip
    return pipeline.plan(Constraints.model_validate(given)).plan


def test_the_least_energy_takes_fewer_devices_than_the_least_time(tmp_path: Path) -> None:
    fast, frugal = planned(tmp_path, "latency"), planned(tmp_path, "energy")
    assert fast.placement is not None
    assert frugal.placement is not None
    assert frugal.placement.devices < fast.placement.devices
    assert frugal.placement.energy_per_query_j is not None
    assert fast.placement.energy_per_query_j is not None
    assert frugal.placement.energy_per_query_j < fast.placement.energy_per_query_j
    assert frugal.solver.objectives == ("energy", "error")
    assert not any("time was minimised" in warning for warning in frugal.warnings)
    assert summary(frugal, frugal.placement)
