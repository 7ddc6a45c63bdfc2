"""The constraints document: units in, named numbers out, contradictions refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from planner.compress.metrics import METRICS
from planner.spec.budget import DEFAULT_MAX_ERROR, AccuracyBudget
from planner.spec.constraints import Constraints, Solver
from planner.spec.drop import LOSSES, Drop
from planner.spec.formats import Format
from planner.spec.quantities import FROM_TEXT
from planner.spec.workload import Workload

EXAMPLE: dict[str, Any] = {
    "schema_version": 1,
    "model": "model.onnx",
    "workload": [{"name": "chunk", "shapes": {"audio": [1, 16000]}, "weight": 1}],
    "target": {"device": "auto", "gpus": "1..4", "memory": "40GiB", "offload": ["host", "peer"]},
    "slo": {"latency": {"p99": "20ms"}, "throughput": "100/s"},
    "accuracy": {
        "metric": "top1",
        "max_drop": "0.5pp",
        "confidence": "95%",
        "calibration": "calib.npz",
        "evaluation": "eval.npz",
    },
    "compression": {
        "formats": ["fp16", "int8", "int4_wo", "2:4"],
        "pin": {"*/lm_head/*": "fp16"},
    },
    "objective": "cost",
    "solver": {"time_limit": "60s", "gap": "1%", "seed": 0},
    "ci": {"baseline": "plans/main.json", "fail_on": ["slo", "accuracy", "latency>5%"]},
}


TOP1 = {"metric": "top1", "evaluation": "e.npz"}
MSE = {"metric": "mse", "evaluation": "e.npz"}


def read(**changes: Any) -> Constraints:
    data = {"model": "model.onnx", **changes}
    return Constraints.model_validate(data, context=FROM_TEXT, by_alias=True, by_name=False)


def test_the_documented_example_means_what_it_says() -> None:
    found = read(**EXAMPLE)
    assert found.target.memory_size_bytes == 40 * 2**30
    assert found.target.gpus is not None
    assert (found.target.gpus.minimum, found.target.gpus.maximum) == (1, 4)
    assert found.slo.latency is not None
    assert (found.slo.latency.percentile, found.slo.latency.limit_us) == (99.0, 20_000.0)
    assert found.slo.throughput_per_s == 100.0
    assert found.accuracy.max_drop == Drop(0.005, "pp")
    assert found.accuracy.max_error is None
    assert found.accuracy.confidence == 0.95
    assert found.compression.formats is not None
    assert found.compression.formats[-1] is Format.SPARSE_2_4
    assert found.solver.time_limit_s == 60.0
    assert found.ci is not None
    assert [(rule.quantity, rule.tolerance) for rule in found.ci.fail_on] == [
        ("slo", 0.0),
        ("accuracy", 0.0),
        ("latency", 0.05),
    ]


def test_it_reads_back_what_it_writes() -> None:
    found = read(**EXAMPLE)
    written = found.model_dump(mode="json", by_alias=True)
    assert written["solver"] == {"time_limit": "60s", "gap": "1%", "seed": 0}
    again = Constraints.model_validate(written, context=FROM_TEXT, by_alias=True, by_name=False)
    assert again == found


def test_the_promise_of_the_plan_holds_every_limit() -> None:
    promise = read(**EXAMPLE).promise
    assert promise.latency_us == 20_000.0
    assert promise.latency_percentile == 99.0
    assert promise.throughput_per_s == 100.0
    assert promise.memory_size_bytes == 40 * 2**30
    assert (promise.metric, promise.confidence) == ("top1", 0.95)


def test_an_error_budget_is_there_when_nobody_names_one() -> None:
    assert read().accuracy.max_error == DEFAULT_MAX_ERROR == 1e-3
    assert AccuracyBudget(confidence=0.9).max_error == DEFAULT_MAX_ERROR


@pytest.mark.parametrize(
    ("asked", "written", "promised"),
    [
        ({**TOP1, "max_drop": "0.5pp"}, "0.5pp", (0.005, False)),
        ({**TOP1, "max_drop": "0.5%"}, "0.5%", (0.005, False)),
        ({**MSE, "max_drop": "2%"}, "2%", (0.02, True)),
        ({**MSE, "max_drop": "0.25"}, "0.25", (0.25, False)),
        ({**MSE, "max_drop": 1.5}, "1.5", (1.5, False)),
        ({"evaluation": "mine:loss", "max_drop": "3"}, "3", (3.0, False)),
        ({"evaluation": "mine:score", "max_drop": "1pp"}, "1pp", (0.01, False)),
    ],
)
def test_a_drop_means_what_fits_its_metric(
    asked: dict[str, Any], written: str, promised: tuple[float, bool]
) -> None:
    found = read(accuracy=asked)
    assert found.model_dump(mode="json", by_alias=True)["accuracy"]["max_drop"] == written
    assert (found.promise.max_drop, found.promise.is_drop_relative) == promised
    assert read(accuracy={**asked, "max_drop": written}) == found


def test_losses_are_the_metrics_where_less_is_better() -> None:
    assert {metric.name for metric in METRICS if not metric.higher_is_better} == set(LOSSES)


def test_programs_may_give_a_drop_as_a_number() -> None:
    found = Constraints.model_validate({"model": "m", "accuracy": {**TOP1, "max_drop": 0.005}})
    assert found.promise.max_drop == 0.005


def test_numbers_without_units_are_for_programs_only() -> None:
    assert Solver(time_limit_s=3.0).time_limit_s == 3.0
    with pytest.raises(ValidationError, match="no unit"):
        read(solver={"time_limit": 3})


@pytest.mark.parametrize("short", ["20ms", "p99=20ms", {"latency": "20ms"}])
def test_an_slo_without_percentile_is_p99(short: Any) -> None:
    latency = read(slo=short).slo.latency
    assert latency is not None
    assert (latency.percentile, latency.limit_us) == (99.0, 20_000.0)


def test_one_word_targets_are_devices() -> None:
    assert read(target="cpu").target.device == "cpu"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"slo": "0ms"}, "greater than 0"),
        ({"slo": {"throughput": "0/s"}}, "greater than 0"),
        ({"slo": {"latency": {"p50": "1ms", "p99": "2ms"}}}, "exactly one percentile"),
        ({"slo": {"latency": {}}}, "exactly one percentile"),
        ({"target": {"device": "cpu", "gpus": "2..4"}}, "contradicts device cpu"),
        ({"target": {"device": "cpu", "offload": ["host"]}}, "the device is cpu"),
        ({"target": {"gpus": "4..1"}}, "empty range"),
        ({"target": {"gpus": "0"}}, "empty range"),
        ({"target": {"gpus": True}}, "not a number of GPUs"),
        ({"target": {"offload": ["peer"]}}, "second GPU"),
        ({"target": {"memory": 40}}, "no unit"),
        ({"model": "m\0.onnx"}, "is no file name"),
        ({"model": "m\udcff.onnx"}, "no UTF-8 text"),
        ({"output": {"html": "r\ud800"}}, "is no file name"),
        ({"accuracy": {"max_drop": "0.5pp"}}, "without evaluation data"),
        ({"accuracy": {"max_drop": "0.5pp", "evaluation": "e.npz"}}, "of which metric"),
        ({"accuracy": {**TOP1, "max_drop": 0.005}}, "the drop 0.005 has no unit"),
        ({"accuracy": {**TOP1, "max_drop": "2"}}, "the drop 2 has no unit"),
        ({"accuracy": {**TOP1, "max_drop": "0pp"}}, "between 0 and 100pp"),
        ({"accuracy": {**TOP1, "max_drop": "101%"}}, "between 0 and 100%"),
        ({"accuracy": {**MSE, "max_drop": "0.5pp"}}, "mse is a loss, not a share"),
        ({"accuracy": {**MSE, "max_drop": "0"}}, "greater than 0"),
        ({"accuracy": {**MSE, "max_drop": "some"}}, "no drop of a metric"),
        ({"accuracy": {**MSE, "max_drop": True}}, "no drop of a metric"),
        ({"accuracy": {"metric": "top2"}}, "no metric"),
        ({"accuracy": {"metric": "top1"}}, "top1 cannot be measured without evaluation data"),
        ({"accuracy": {"max_error": True}}, "not a number"),
        ({"accuracy": {"max_error": ".nan"}}, "valid number"),
        ({"accuracy": {"confidence": "100%"}}, "less than 1"),
        ({"compression": {"formats": []}}, "at least 1"),
        ({"compression": {"formats": ["fp17"]}}, "should be"),
        ({"compression": {"formats": ["int8"], "pin": {"a": "fp16"}}}, "leaves out"),
        ({"workload": []}, "at least 1"),
        ({"workload": [{"shapes": {"x": [-1]}}]}, "greater than or equal"),
        ({"workload": [{"shapes": {"x": [2**40, 2**40]}}]}, "int64"),
        ({"workload": [{"name": "a"}, {"name": "a"}]}, "two workload entries"),
        ({"workload": [{"weight": 0}]}, "greater than 0"),
        ({"ci": {"fail_on": ["latency>5%"]}}, "compares with a baseline"),
        ({"ci": {"fail_on": ["slo>5%"]}}, "no tolerance"),
        ({"ci": {"fail_on": ["weather"]}}, "no reason to fail"),
        ({"ci": {"fail_on": ["slo"]}}, "no slo is given"),
        ({"ci": {"baseline": "plan.json"}, "slo": "1ms"}, "is read by this run"),
        ({"schema_version": 2}, "should be 1"),
        ({"solver": {"seed": "0"}}, "valid integer"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        read(**changes)


def test_a_model_that_links_to_itself_is_a_path_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").symlink_to("m.onnx")
    assert read(model=str(tmp_path / "m.onnx")).model == tmp_path / "m.onnx"


def test_fp32_may_be_pinned_whatever_the_formats() -> None:
    found = read(compression={"formats": ["int8"], "pin": {"*head*": "fp32"}})
    assert found.compression.pin == {"*head*": Format.FP32}


def test_python_builds_the_same_document() -> None:
    built = Constraints(model=Path("model.onnx"), workload=(Workload(shapes={"x": (1, 3)}),))
    assert built == read(workload=[{"shapes": {"x": [1, 3]}}])
