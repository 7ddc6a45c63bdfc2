"""`--target cuda` without a GPU: what is refused, what measurements decide, what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from planner import pipeline
from planner.errors import EnvironmentMismatchError, VerificationError
from planner.profiling.cuda.utilisation import Utilisation
from planner.profiling.race import Contestant
from planner.spec.constraints import Constraints
from planner.spec.plan import Environment, Plan
from planner.steps import racing
from planner.steps.gpu import document
from planner.steps.gpu import plan as gpu_plan
from planner.steps.gpu.document import ON_CPU
from tests.emit.test_partition import block

PLAIN_US = 100.0


@pytest.fixture
def request_(tmp_path: Path) -> dict[str, Any]:
    """A request for this machine's GPU."""
    path = tmp_path / "model.onnx"
    onnx.save(block(), path)
    return {"model": str(path), "target": {"device": "cuda"}}


def planned(
    request: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    times_us: dict[str, float],
    on_cpu: tuple[str, ...] = (),
) -> Plan:
    """The plan, where each way takes the time given (others 100 us)."""

    def measure(path: Path, settings: Any, feeds: Any) -> Utilisation:
        return Utilisation(80.0, 20.0, {"MatMul": 16.0}, on_cpu)

    def race(contestants: list[Contestant], *_: Any, **__: Any) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        noise = 1 + 0.001 * rng.standard_normal(40)
        return {
            one.name: {
                "percentiles_us": {f"{p:g}": us for p in racing.PERCENTILES},
                "first_us": list(PLAIN_US * noise),
                "medians_us": list(us * noise),
                "runs": 40,
                "peak_size_bytes": 1,
            }
            for one in contestants
            for us in (times_us.get(one.name, PLAIN_US),)
        }

    here = Environment(
        infopt="1", onnxruntime="1", device="GPU", device_digest="d", platform="Linux"
    )
    monkeypatch.setattr(gpu_plan, "count_gpus", lambda: 1)
    monkeypatch.setattr(document, "gpu_environment", lambda: here)
    monkeypatch.setattr(gpu_plan, "measure", measure)
    monkeypatch.setattr(gpu_plan, "race", race)
    monkeypatch.setattr(
        gpu_plan, "PLAIN_SETTINGS", gpu_plan.PLAIN_SETTINGS.model_copy(update={"provider": "cpu"})
    )
    return pipeline.plan(Constraints.model_validate(request)).plan


def test_the_fastest_way_ships_with_what_was_predicted_for_it(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(request_, monkeypatch, {"native, CUDA graph": 40.0, "fp16": 60.0})
    assert plan.guard is not None
    assert plan.guard.shipped == "native, CUDA graph"
    assert plan.settings.cuda_graph
    assert plan.formats == {}
    assert plan.prediction.latency_p50_us["default"].expected == 80.0
    products = [one for one in plan.decisions if one.op_type == "MatMul"]
    assert sum(one.predicted_us for one in products) == pytest.approx(16.0)
    assert any("computes 25 % of a call" in warning for warning in plan.warnings)


def test_fp16_ships_only_within_its_error(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = {"fp16, CUDA graph": 20.0}
    plan = planned(request_, monkeypatch, fast)
    assert set(plan.formats.values()) == {"fp16"}
    assert 0 < plan.accuracy.measured_error < 1e-3
    strict = {**request_, "accuracy": {"max_error": 1e-12}}
    refused = planned(strict, monkeypatch, fast)
    assert refused.formats == {}
    assert refused.shipped == "plain"


def test_nothing_that_is_no_faster_replaces_plain_onnx_runtime(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(request_, monkeypatch, {"native": 99.5})
    assert plan.shipped == "plain"
    assert not plan.settings.cuda_graph
    assert plan.prediction.latency_p50_us["default"].expected == PLAIN_US


def test_a_throughput_that_nothing_sustains_is_refused(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request_["slo"] = {"throughput": "20000/s"}
    with pytest.raises(VerificationError, match="measured 10000/s, promised 20000/s"):
        planned(request_, monkeypatch, {})
    assert planned(request_, monkeypatch, {"native": 40.0}).guard is not None


def test_operators_left_to_the_cpu_are_told(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(request_, monkeypatch, {}, on_cpu=("odd (NonZero)",))
    assert any(warning.startswith(ON_CPU) and "odd" in warning for warning in plan.warnings)


def test_machines_without_the_gpus_asked_for_are_refused(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_plan, "count_gpus", lambda: 0)
    with pytest.raises(EnvironmentMismatchError, match="no NVIDIA GPU here"):
        pipeline.plan(Constraints.model_validate(request_))
    monkeypatch.setattr(gpu_plan, "count_gpus", lambda: 4)
    request_["target"]["gpus"] = "2..4"
    with pytest.raises(EnvironmentMismatchError, match="use one GPU") as found:
        pipeline.plan(Constraints.model_validate(request_))
    assert "--tensor 2" in found.value.text
