"""Several input shapes under one plan: one engine, priced, timed and checked per shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner import pipeline
from planner.compress.measure import runner
from planner.errors import DataError
from planner.ir.problem import Latency, Limits, Option, Problem, Setting, State
from planner.progress import Silent
from planner.runtime.engine import load
from planner.runtime.tensors import write_tensors
from planner.solve.solve import solve
from planner.spec.io import canonical_json, write_plan
from planner.spec.plan import Plan
from planner.spec.session import SessionSettings
from planner.spec.verdict import Verdict
from planner.steps.choose import only_shape
from planner.steps.conflict import ConflictError
from planner.steps.prepare import Prepared, prepare
from planner.steps.workspace import workspace
from tests.endtoend import Workshop, encoder, save
from tests.serve.client import Server, json_input

SIZES = {"short": (1, 4, 32), "long": (1, 256, 32)}
WORKLOAD = [
    {"name": "short", "shapes": {"x": SIZES["short"]}, "weight": 8},
    {"name": "long", "shapes": {"x": SIZES["long"]}, "weight": 2},
]


@pytest.fixture(scope="module")
def model(workshop: Workshop) -> Path:
    return save(encoder(), workshop.folder / "encoder.onnx")


@pytest.fixture(scope="module")
def plan(workshop: Workshop, model: Path) -> Plan:
    """One plan for two lengths."""
    return workshop.plan(model, workload=WORKLOAD)


def feeds(shape: str) -> dict[str, Any]:
    """Random inputs of one length."""
    return {"x": np.random.default_rng(3).standard_normal(SIZES[shape], "f4")}


def test_everything_is_known_by_shape(plan: Plan) -> None:
    assert [(s.name, s.weight, s.shapes) for s in plan.workload] == [
        ("short", 8, {"x": SIZES["short"]}),
        ("long", 2, {"x": SIZES["long"]}),
    ]
    predicted = plan.prediction.latency_p50_us
    assert predicted.keys() == plan.prediction.latency_slo_us.keys() == {"short", "long"}
    assert predicted["long"].low > predicted["short"].high
    assert plan.guard is not None
    for timing in plan.guard.timings:
        short, long = timing.shapes["short"], timing.shapes["long"]
        assert timing.p50_us == pytest.approx(0.8 * short.p50_us + 0.2 * long.p50_us)
        assert timing.slo_us == max(short.slo_us, long.slo_us)
    whole_us = sum(decision.predicted_us for decision in plan.decisions)
    assert predicted["short"].low < whole_us < predicted["long"].high


def test_a_rerun_says_the_same(workshop: Workshop, model: Path, plan: Plan) -> None:
    before = workshop.counts()
    with workshop.quick():
        again = pipeline.plan(workshop.constraints(model, workload=WORKLOAD)).plan
    sealed = again.model_copy(update={"digest": plan.digest})
    assert canonical_json(sealed) == canonical_json(plan)
    assert workshop.counts() == before


def test_one_engine_serves_every_shape(
    workshop: Workshop, model: Path, plan: Plan, tmp_path: Path
) -> None:
    path, engine = tmp_path / "plan.json", tmp_path / "engine"
    write_plan(path, plan)
    deployed = workshop.infopt("deploy", path, "--no-serve", "-q", "-o", engine, "--json")
    verdict = Verdict.model_validate_json(deployed.out)
    failed = {check.name for check in verdict.checks if not check.passed}
    assert failed <= {"latency"}, deployed.out  # a busy machine may be slow, never wrong
    assert verdict.measured_us.keys() == verdict.predicted_us.keys() == SIZES.keys()

    wanted = {shape: runner(model, SessionSettings())(feeds(shape))["y"] for shape in SIZES}
    with load(engine) as session:
        assert [golden.shape for golden in session.manifest.golden] == ["short", "long"]
        for shape, answer in wanted.items():
            found = session.run(feeds(shape))["y"]
            assert np.sum((found - answer) ** 2) <= 0.05 * np.sum(answer**2)
        with pytest.raises(DataError, match=r"shape is \[1, 4, 31\]"):
            session.run({"x": feeds("short")["x"][..., :31]})

    with Server(engine) as server:
        metadata = server.request("GET", "/v2/models/encoder").json
        shown = metadata["inputs"][0]["shape"]
        assert [size for size in shown if size != -1][-1] == 32
        assert shown[1] == -1
        for shape, answer in wanted.items():
            document = {"inputs": [json_input(feeds(shape)["x"])]}
            reply = server.infer(document, model="encoder")
            assert reply.status == 200, reply.body
            assert reply.json["outputs"][0]["shape"] == list(answer.shape)


def test_a_promise_that_one_shape_cannot_keep_names_it(
    workshop: Workshop, model: Path, plan: Plan
) -> None:
    predicted = plan.prediction.latency_p50_us
    between_us = (predicted["short"].high * predicted["long"].low) ** 0.5
    slo = {"latency": f"p50={between_us:.0f}us"}
    with workshop.quick():
        constraints = workshop.constraints(model, workload=WORKLOAD, slo=slo)
        with pytest.raises(ConflictError) as refused:
            pipeline.plan(constraints)
    assert "us for 'long' (proved); the fastest feasible plan takes" in refused.value.what
    assert [limit.shapes for limit in refused.value.report.limits] == [("long",)]


def one_op(latencies_us: dict[str, tuple[float, ...]], limit_us: float | None = None) -> Problem:
    """Options of one operator, with a latency per shape."""
    shapes = len(next(iter(latencies_us.values())))
    return Problem(
        ops=("o",),
        edges=(),
        options=tuple(
            Option(
                name, ("o",), name, (tuple(Latency(us, us, us) for us in found),),
                makes=(State("y", "plain"),),
            )
            for name, found in latencies_us.items()
        ),
        settings=(Setting("s", (Latency(0.0, 0.0, 0.0),) * shapes),),
        shape_weights=(0.8, 0.2),
        wanted=(State("y", "plain"),),
        limits=Limits(latency_us=limit_us),
    )  # fmt: skip


def test_the_workload_decides_otherwise_than_each_of_its_shapes() -> None:
    problem = one_op({"a": (10.0, 100.0), "b": (20.0, 40.0), "c": (13.0, 50.0)})
    assert solve(only_shape(problem, 0)).chosen == ("a",)
    assert solve(only_shape(problem, 1)).chosen == ("b",)
    both = solve(problem)
    assert both.chosen == ("c",)  # 0.8 * 13 + 0.2 * 50 = 20.4; a: 28, b: 24
    assert both.objective[0] == pytest.approx(20.4)


def test_the_promise_holds_for_every_shape() -> None:
    problem = one_op({"a": (10.0, 100.0), "b": (20.0, 40.0), "c": (13.0, 50.0)}, limit_us=45.0)
    assert solve(problem).chosen == ("b",)


def _prepared(workshop: Workshop, model: Path, **accuracy: Any) -> Prepared:
    constraints = workshop.constraints(model, workload=WORKLOAD, accuracy=accuracy)
    with workshop.quick(), workspace(Silent()) as work:
        return prepare(constraints, work)


def test_data_of_one_length_is_told_and_data_of_both_is_used(
    workshop: Workshop, model: Path, tmp_path: Path
) -> None:
    path, random = tmp_path / "data.npz", np.random.default_rng(0)
    write_tensors(path, {"x": random.standard_normal((3, 4, 32), "f4")})
    found = _prepared(workshop, model, calibration=str(path))
    assert found.is_calibrated
    assert [samples.valid for samples in found.samples] == [3]
    assert any("no data fits the shape 'long'" in note for note in found.notes)

    parts = {"short": (3, 4, 32), "long": (2, 256, 32)}
    data = {f"{name}/x": random.standard_normal(shape, "f4") for name, shape in parts.items()}
    write_tensors(path, data)
    found = _prepared(workshop, model, calibration=str(path))
    assert [samples.valid for samples in found.samples] == [3, 2]
    assert not any("no data" in note for note in found.notes)

    write_tensors(path, {"x": random.standard_normal((3, 5, 32), "f4")})
    with pytest.raises(DataError, match=r"'x' has shape \[3, 5, 32\]"):
        _prepared(workshop, model, calibration=str(path))
