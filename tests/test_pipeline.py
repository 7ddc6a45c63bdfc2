"""The story, end to end: plan, build, verify, run; by the Python API and by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from planner import pipeline
from planner.compress.measure import runner
from planner.runtime.engine import load
from planner.spec.io import canonical_json, plan_digest, read_plan, write_plan
from planner.spec.plan import Plan
from planner.spec.session import SessionSettings
from planner.spec.verdict import Verdict
from tests.endtoend import MODELS, Workshop

Feeds = dict[str, Any]


def feeds_of(model: Path) -> Feeds:
    """Random inputs, the same for the same model."""
    random = np.random.default_rng(7)
    found: Feeds = {}
    for port in onnx.load(model).graph.input:
        kind = port.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        is_flag = kind.elem_type == onnx.TensorProto.BOOL
        found[port.name] = np.array(True) if is_flag else random.standard_normal(shape, "f4")
    return found


def nmse(found: Any, wanted: Any) -> float:
    """Energy of the difference over energy of the answer."""
    return float(np.sum((found - wanted) ** 2) / np.sum(wanted**2))


@pytest.mark.parametrize("name", MODELS)
def test_plan_deploy_verify_run(workshop: Workshop, tmp_path: Path, name: str) -> None:
    model, path, engine = workshop.model(name), tmp_path / "plan.json", tmp_path / "engine"
    plan = write_plan(path, workshop.plan(name))
    deployed = workshop.infopt("deploy", path, "--no-serve", "-q", "-o", engine, "--json")
    verdict = Verdict.model_validate_json(deployed.out)

    failed = {check.name for check in verdict.checks if not check.passed}
    assert failed <= {"latency"}, deployed.out  # a busy machine may be slow, never wrong
    assert deployed.code == (4 if failed else 0)
    assert [decision.op for decision in plan.decisions]
    assert plan.solver.status == "optimal"

    feeds = feeds_of(model)
    wanted = runner(model, SessionSettings())(feeds)
    with load(engine) as session:
        found = session.run(feeds)
    assert found.keys() == wanted.keys()
    for output in wanted:
        assert nmse(found[output], wanted[output]) <= 0.05
    if plan.shipped == "plain":
        np.testing.assert_array_equal(found["y"], wanted["y"])


def test_the_command_line_and_python_make_the_same_plan(workshop: Workshop, tmp_path: Path) -> None:
    asked = ("--max-error", "0.05", "--formats", "int8_dynamic", "-q")
    path = tmp_path / "plan.json"
    planned = workshop.infopt("plan", workshop.model("mlp"), *asked, "-o", path, "--json")
    assert planned.code == 0
    assert json.loads(planned.out) == json.loads(path.read_bytes())
    assert path.read_bytes() == canonical_json(workshop.plan("mlp"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_a_rerun_is_byte_identical_and_measures_nothing(workshop: Workshop) -> None:
    first = workshop.plan("cnn")
    before = workshop.counts()
    with workshop.quick():
        again = pipeline.plan(workshop.constraints("cnn")).plan
    assert canonical_json(again.model_copy(update={"digest": first.digest})) == canonical_json(
        first
    )
    assert workshop.counts() == before


def test_measurements_that_moved_make_the_same_plan_and_nothing_is_measured(
    workshop: Workshop, tmp_path: Path
) -> None:
    plan = workshop.plan("cnn")
    assert workshop.infopt("cache", "export", tmp_path / "m.gz").code == 0
    elsewhere = Workshop(workshop.folder, tmp_path / "cache")
    assert elsewhere.infopt("cache", "import", tmp_path / "m.gz").code == 0
    before = elsewhere.counts()
    assert before == workshop.counts()
    again = elsewhere.plan("cnn")
    assert canonical_json(again) == canonical_json(plan)
    assert elsewhere.counts() == before


def test_a_plan_need_not_be_written_to_be_built_and_verified(
    workshop: Workshop, tmp_path: Path
) -> None:
    workshop.plan("mlp")
    with workshop.quick():
        plan = pipeline.plan(workshop.constraints("mlp")).plan
        engine = pipeline.build(plan, tmp_path / "engine")
        verdict = pipeline.verify(engine)
    assert plan.digest == plan_digest(plan)
    assert {check.name for check in verdict.checks if check.passed} >= {"files", "device"}
    changed = plan.model_copy(update={"warnings": ("mine",)})
    with workshop.quick():
        pipeline.verify(pipeline.build(changed, engine))
    assert read_plan(engine / "plan.json").warnings == ("mine",)


def test_another_promise_reuses_every_kernel(workshop: Workshop) -> None:
    workshop.plan("mlp")
    before = workshop.counts()
    plan = workshop.plan("mlp", slo="5s")
    after = workshop.counts()
    assert plan.promise.latency_us == 5e6
    same = ("kernel", "overhead", "analysis", "variant", "sensitivity", "context")
    assert {kind: after[kind] for kind in same} == {kind: before[kind] for kind in same}


def test_another_objective_is_another_plan(workshop: Workshop) -> None:
    plan = workshop.plan("mlp", objective="memory")
    assert plan.solver.objectives[0] == "memory"
    assert set(plan.formats.values()) <= {"int8_dynamic"}
    fast = workshop.plan("mlp")
    size = plan.prediction.memory_size_bytes.expected
    assert size <= fast.prediction.memory_size_bytes.expected


def test_a_second_deploy_reuses_the_engine(workshop: Workshop, tmp_path: Path) -> None:
    plan, engine = workshop.plan("mlp"), tmp_path / "engine"
    with workshop.quick():
        pipeline.build(plan, engine)
        made = {path: path.stat().st_ino for path in engine.rglob("*")}
        assert pipeline.build(plan, engine) == engine
        assert {path: path.stat().st_ino for path in engine.rglob("*")} == made

        other = tmp_path / "other"
        pipeline.build(plan, other)
    assert _contents(other) == _contents(engine)


def test_another_plan_replaces_the_engine(workshop: Workshop, tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    with workshop.quick():
        pipeline.build(workshop.plan("mlp"), engine)
        pipeline.build(workshop.plan("mlp", slo="5s"), engine)
    assert read_plan(engine / "plan.json").promise.latency_us == 5e6
    assert [entry.name for entry in tmp_path.iterdir()] == ["engine"]


def test_a_moved_model_is_pointed_to(workshop: Workshop, tmp_path: Path) -> None:
    plan = workshop.plan("mlp")
    moved = plan.model_copy(
        update={"model": plan.model.model_copy(update={"path": str(tmp_path / "gone.onnx")})}
    )
    path = tmp_path / "plan.json"
    write_plan(path, moved)
    refused = workshop.infopt("deploy", path, "--no-serve", "-q", "-o", tmp_path / "engine")
    assert refused.code == 2
    assert "gone.onnx: no such file" in refused.err
    assert not (tmp_path / "engine").exists()
    with workshop.quick():
        built = pipeline.build(moved, tmp_path / "engine", model=workshop.model("mlp"))
    assert onnxruntime.InferenceSession(built / "parts/000/model.onnx").get_inputs()[0].name == "x"


def test_a_dry_run_lists_and_measures_nothing(workshop: Workshop, tmp_path: Path) -> None:
    fresh = Workshop(workshop.folder, tmp_path / "cache")
    with fresh.quick():
        found = pipeline.dry_run(fresh.constraints("mlp"))
    assert found.ops == 3
    assert found.measured == 0
    assert {pending.kernel.split()[0] for pending in found.pending} >= {"MatMul"}
    assert "kernel" not in fresh.counts()
    workshop.plan("mlp")
    with workshop.quick():
        known = pipeline.dry_run(workshop.constraints("mlp"))
    assert known.pending == ()
    assert known.measured > 0


def test_a_plan_that_was_written_is_the_plan_that_is_read(
    workshop: Workshop, tmp_path: Path
) -> None:
    plan = workshop.plan("lstm")
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan
    assert isinstance(plan, Plan)


def _contents(engine: Path) -> dict[str, bytes]:
    return {
        path.relative_to(engine).as_posix(): path.read_bytes()
        for path in engine.rglob("*")
        if path.is_file()
    }
