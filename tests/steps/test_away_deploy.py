"""From a plan for GPUs that are not here to an engine: built, run by processes, or refused."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from planner import pipeline, runtime
from planner.errors import EnvironmentMismatchError, ModelError, VerificationError
from planner.progress import Silent
from planner.runtime.ort import make_session
from planner.spec.constraints import Constraints
from planner.spec.io import sealed
from planner.spec.plan import Plan
from planner.spec.session import SessionSettings
from planner.steps.away.plan import plan_away
from planner.steps.away.target import find_target
from planner.steps.workspace import workspace
from tests.place.models import filled, memory, shapes, transformer

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None and importlib.util.find_spec("torch") is None,
    reason="neither mpi4py nor torch is installed",
)
DEVICE = "a100-sxm-80gb"
WIDTH, HEADS, WORDS = 128, 4, 80_000
"""A head of 20 MB in 16 bits: more than the memory that tests leave one device."""


def request(model: Path, **more: Any) -> Constraints:
    """One run of eight tokens on up to two GPUs whose memory holds about half of the head."""
    given = {
        "model": model,
        "workload": [{"shapes": shapes(8, 0, WIDTH, HEADS)}],
        "target": {
            "device": DEVICE, "gpus": "1..2", "memory": memory(DEVICE, 17), "offload": [],
        },
        "accuracy": {"max_error": 1e-6},
        **more,
    }  # fmt: skip
    return Constraints.model_validate(given)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its weights."""
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(filled(transformer(2, WIDTH, HEADS, WORDS)), path)
    return path


@pytest.fixture(scope="module")
def plan(model: Path) -> Plan:
    return sealed(pipeline.plan(request(model)).plan)


def on_processes(plan: Plan) -> Plan:
    """The same plan, each rank a process of this machine's CPU."""
    stages = tuple(
        stage.model_copy(update={"device": "cpu", "threads": 1}) for stage in plan.execution
    )
    return sealed(plan.model_copy(update={"execution": stages, "settings": SessionSettings()}))


@needs_library
def test_a_plan_for_two_gpus_answers_as_the_model_does(
    plan: Plan, model: Path, tmp_path: Path
) -> None:
    assert plan.ranks == 2
    assert plan.execution[0].cuts
    assert set(plan.formats.values()) == {"fp16"}
    engine = pipeline.build(on_processes(plan), tmp_path / "engine")
    assert worst_error(engine, model) < 1e-5


@needs_library
def test_weight_only_formats_are_shared_by_two_ranks(model: Path, tmp_path: Path) -> None:
    small = {"device": DEVICE, "gpus": "1..2", "memory": memory(DEVICE, 8), "offload": []}
    asked = request(
        model,
        target=small,
        compression={"formats": ["int8_wo"]},
        accuracy={"max_error": 1e-3},
    )
    plan = sealed(pipeline.plan(asked).plan)
    assert plan.ranks == 2
    assert "int8_wo" in plan.formats.values()
    assert pipeline.obstacles(plan) == ()
    engine = pipeline.build(on_processes(plan), tmp_path / "engine")
    sizes = [path.stat().st_size for path in engine.rglob("model.onnx")]
    assert sum(sizes) < 1.3 * WORDS * WIDTH + 2e6, "the head is packed, and shared, not copied"
    assert worst_error(engine, model) < 1e-2


def worst_error(
    engine: Path, model: Path, width: int = WIDTH, heads: int = HEADS, layers: int = 2
) -> float:
    """Largest NMSE of an output of an engine's ranks against the model's."""
    rng = np.random.default_rng(1)
    feeds = {
        "x": rng.standard_normal((1, 8, width)).astype(np.float32),
        **{f"past_{n}": np.zeros((1, heads, 0, width // heads), np.float32) for n in range(layers)},
    }
    whole = make_session(model, SessionSettings())
    names = [output.name for output in whole.get_outputs()]
    wanted = dict(zip(names, whole.run(names, feeds), strict=True))
    with runtime.load(engine) as session:
        found = session.run(feeds)
    return max(
        float(((found[name] - value) ** 2).sum() / (value**2).sum())
        for name, value in wanted.items()
    )


def test_gpus_that_are_not_here(plan: Plan, tmp_path: Path, monkeypatch: Any) -> None:
    """Too few are no place for the engine; where there is none, it is complete and unverified."""
    monkeypatch.setattr("planner.runtime.ranks.session.count_gpus", lambda: 1)
    monkeypatch.setattr("planner.steps.verifying.gpu_title", lambda: "a GPU")
    engine = pipeline.build(plan, tmp_path / "engine")
    with pytest.raises(EnvironmentMismatchError, match="needs 2 GPUs; this machine has 1"):
        pipeline.verify(engine)
    monkeypatch.setattr("planner.steps.verifying.gpu_title", lambda: None)
    verdict = pipeline.verify(engine)
    assert verdict.passed
    assert verdict.is_unverified
    assert not verdict.measured_us
    (engine / "plan.json").write_bytes((engine / "plan.json").read_bytes() + b" ")
    with pytest.raises(VerificationError, match=r"plan\.json"):
        pipeline.verify(engine)


def test_weights_that_are_not_here(tmp_path: Path) -> None:
    path = tmp_path / "bare.onnx"
    onnx.save(transformer(2, WIDTH, HEADS, WORDS), path)
    plan = sealed(pipeline.plan(request(path, no_weights=True)).plan)
    with pytest.raises(EnvironmentMismatchError, match=r"an engine needs them: .*'weights\.bin'"):
        pipeline.build(plan, tmp_path / "engine")
    assert not (tmp_path / "engine").exists()
    onnx.save(transformer(1, WIDTH, HEADS, WORDS), path)
    with pytest.raises(ModelError, match="not the model that the plan was made for"):
        pipeline.build(plan, tmp_path / "engine")


def streaming_request(path: Path) -> Constraints:
    """Three blocks whose weights do not fit into what tests leave one device."""
    tight = {"device": DEVICE, "gpus": 1, "memory": memory(DEVICE, 17), "offload": ["host"]}
    workload = [{"shapes": shapes(8, 0, 512, 8)}]
    return request(path, target=tight, workload=workload, no_weights=True)


def streaming(path: Path) -> Plan:
    return sealed(pipeline.plan(streaming_request(path)).plan)


def test_weights_for_which_the_host_has_no_room_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(transformer(3, 512, 8), path)
    asked = streaming_request(path)
    away = find_target(asked)
    told = {}
    for size_bytes in (10**3, 10**12):
        machine = replace(away.machine, host_memory_size_bytes=size_bytes)
        with workspace(Silent(), None) as work:
            found = plan_away(asked, replace(away, machine=machine), work)
        told[size_bytes] = [text for text in found.warnings if "of host memory" in text]
    assert "and 1 machine has 1000 B: the rest comes from disk" in told[10**3][0]
    assert told[10**12] == []


def test_weights_that_stream_into_one_gpu_answer_as_the_model_does(tmp_path: Path) -> None:
    """Built as for the GPU; then run with the same parts on the CPU."""
    path = tmp_path / "model.onnx"
    onnx.save(filled(transformer(3, 512, 8)), path)
    plan = streaming(path)
    assert plan.placement is not None
    assert {group.residency for group in plan.placement.groups} == {"device", "host"}
    assert pipeline.obstacles(plan) == ()
    engine = pipeline.build(on_processes(plan), tmp_path / "engine")
    manifest = runtime.load(engine).manifest
    assert manifest.is_streamed
    assert manifest.ranks == 1
    error = worst_error(engine, path, width=512, heads=8, layers=3)
    assert error < 1e-5


def test_what_no_engine_can_do_is_told_before_anything_is_built(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(transformer(3, 512, 8), path)
    plan = streaming(path)
    stages = (plan.execution[0].model_copy(update={"ranks": (0, 1)}),)
    several = sealed(plan.model_copy(update={"execution": stages}))
    (reason,) = pipeline.obstacles(several)
    assert "stream their weights into 2 ranks" in reason
    with pytest.raises(EnvironmentMismatchError, match="no engine of this plan can be built"):
        pipeline.build(several, tmp_path / "engine")
    sparse = plan.model_copy(update={"formats": {"a": "2:4"}, "placement": None})
    assert pipeline.obstacles(sparse) == (
        "no engine has 2:4, which 1 operators take (--formats fp16 plans without)",
    )
