"""Recurrences from a model file to a device: what the plan, the engine and the device say of
loops."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from planner import pipeline
from planner.fuse.roll import MIN_STEPS
from planner.kernels.cache import KernelCache
from planner.kernels.compile import Compiled
from planner.report.built import built_of
from planner.report.explain import explain
from planner.runtime.devices import count_gpus
from planner.runtime.engine import load
from planner.runtime.fused import manifest as fused
from planner.runtime.integrity import read_manifest
from planner.runtime.tensors import read_tensors
from planner.spec.io import write_plan
from planner.spec.plan import Plan
from planner.steps.fused.paths import generated_parts
from tests.fuse.test_roll import _model
from tests.kernels.run import needs_triton
from tests.runtime import fake_cuda
from tests.steps.test_fused import planned, text_of

_STEPS = 12


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled kernels are kept: most are the same in all engines."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(autouse=True)
def _compiled_once(_own_settings: None, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOPT_CACHE", str(kernels))


@pytest.fixture(scope="module")
def plan(kernels: Path) -> Plan:
    """Two layers of twelve steps that read little: launches, by price."""
    return planned(_model("LSTM", layers=2, steps=_STEPS), kernels)


def _run(plan: Plan) -> tuple[int, int]:
    """First and last launch of what could be a loop, as the plan says."""
    assert plan.fusion is not None
    ((text,),) = [one.reasons for one in plan.fusion.buckets[0].segments]
    found = re.match(r"(\d+) to (\d+) are launches: .*as a loop", text)
    assert found is not None
    return int(found[1]), int(found[2])


def _has_loops(plan: Plan) -> bool:
    """Where the GPU is here, both were timed."""
    assert plan.fusion is not None
    segments = plan.fusion.buckets[0].segments
    return any(launch.edge == "loop" for one in segments for launch in one.launches)


def _looped(plan: Plan) -> Plan:
    """The plan with that run as a loop all the same."""
    assert plan.fusion is not None
    first, last = _run(plan)
    (bucket,) = plan.fusion.buckets
    (segment,) = bucket.segments
    launches = tuple(
        launch.model_copy(update={"edge": "loop"}) if first < at <= last else launch
        for at, launch in enumerate(segment.launches)
    )
    changed: Any = segment.model_copy(update={"launches": launches, "reasons": ()})
    bucket = bucket.model_copy(update={"segments": (changed,)})
    fusion = plan.fusion.model_copy(update={"buckets": (bucket,)})
    return plan.model_copy(update={"fusion": fusion})


def test_a_plan_says_why_steps_stay_launches(plan: Plan) -> None:
    first, last = _run(plan)
    assert last - first + 1 >= MIN_STEPS
    assert f"{first:03d} to {last:03d} are launches" in text_of(explain(plan))


@needs_triton
def test_an_engine_says_what_runs_where(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looped = write_plan(tmp_path / "plan.json", _looped(plan))
    engine = pipeline.build(looped, tmp_path / "engine")
    (segment,) = read_manifest(engine).fused_segments
    found = fused.read(engine / segment.folder)
    (bucket,) = found.buckets
    (loop,) = bucket.loops
    first, last = _run(plan)
    assert (loop.position, loop.steps) == (first, last - first + 1)
    assert {b.architecture for b in found.binaries if b.kernel in found.loop_kernels} == {
        80, 89, 90,
    }  # fmt: skip
    said = "one loop on sm_80, sm_89, sm_90 where its"
    verdict = pipeline.verify(engine)
    assert verdict.passed
    assert any(said in check.detail for check in verdict.checks)
    assert said in " ".join(text_of(explain(looped, None, built_of(engine, looped))).split())
    fake = fake_cuda.install(monkeypatch)
    for units, text in ((132, "as one loop"), (1, "as launches: ")):
        fake.units = units
        with load(engine, path="fused") as session:
            (told,) = session.loops
            assert told.startswith(segment.folder)
            assert text in told
            (part,) = generated_parts(session, None, "")
            assert text in part.loops[0]


@needs_triton
def test_what_one_architecture_refuses_the_others_keep(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sm_89 refuses the kernel of the steps: it gets another one, and sm_90 runs as planned."""
    assert plan.fusion is not None
    (segment,) = plan.fusion.buckets[0].segments
    step = segment.launches[_run(plan)[0]].kernel
    compiled = KernelCache.compiled

    def refusing(self: KernelCache, *given: Any, **named: Any) -> dict[tuple[str, int], Compiled]:
        found = compiled(self, *given, **named)
        return {key: made for key, made in found.items() if key != (step, 89)}

    monkeypatch.setattr(KernelCache, "compiled", refusing)
    engine = pipeline.build(write_plan(tmp_path / "p.json", _looped(plan)), tmp_path / "engine")
    (part,) = read_manifest(engine).fused_segments
    found = fused.read(engine / part.folder)
    assert [one.architectures for one in found.buckets] == [(80, 90), (89,)]
    assert all(one.loops for one in found.buckets[:1])
    planned_, other = ({b.kernel for b in found.binaries if b.architecture == a} for a in (90, 89))
    assert step in planned_
    assert step not in other
    assert pipeline.verify(engine).passed
    fake = fake_cuda.install(monkeypatch)
    for architecture, kernels in ((90, planned_), (86, planned_), (89, other)):
        fake.architecture = architecture
        with load(engine, path="fused") as session:
            (own,) = session.parts
            assert own.kernels is not None
            (bucket,) = own.kernels.manifest.buckets
            assert {launch.kernel for launch in bucket.launches} <= kernels


@pytest.mark.gpu
@needs_triton
@pytest.mark.skipif(count_gpus() < 1, reason="needs a GPU")
def test_a_gpu_answers_to_the_bit_as_loop_and_as_launches(plan: Plan, tmp_path: Path) -> None:
    looped = plan if _has_loops(plan) else _looped(plan)
    engine = pipeline.build(write_plan(tmp_path / "plan.json", looped), tmp_path / "engine")
    manifest = read_manifest(engine)
    (segment,) = manifest.fused_segments
    (kernel,) = fused.read(engine / segment.folder).loop_kernels
    feeds = read_tensors(engine / manifest.golden[0].inputs)
    answers = []
    for is_loop in (True, False):
        apart = {} if is_loop else {segment.folder: {kernel: "asked for"}}
        with load(engine, path="fused", apart=apart) as session:
            assert ("as one loop" in session.loops[0]) is is_loop
            answers.append(session.run(feeds))
    for name, value in answers[0].items():
        assert value.tobytes() == answers[1][name].tobytes()
    verdict = pipeline.verify(engine)
    assert verdict.passed
    assert any("us as one kernel" in check.detail for check in verdict.checks)
