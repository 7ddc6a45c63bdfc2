"""Plans and engines for a GPU that is not here, from the file to the verdict."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from planner import pipeline
from planner.errors import EnvironmentMismatchError, InfeasibleError, VerificationError
from planner.profiling.store import Store
from planner.report.built import built_of, drawn
from planner.report.diff import compare
from planner.report.explain import explain
from planner.runtime.engine import load
from planner.runtime.fused import manifest as fused
from planner.runtime.integrity import read_manifest
from planner.spec.constraints import Constraints
from planner.spec.io import read_plan, write_plan
from planner.spec.plan import Plan
from planner.steps.fused.parts import NotFused, read_cuts
from tests.graph.test_segments import uncovered_in_the_middle
from tests.kernels.run import needs_triton
from tests.ops import models

H200 = "h200-sxm-141gb"


def request(path: Path, **sections: Any) -> Constraints:
    return Constraints.model_validate({"model": str(path), "target": H200, **sections})


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "block.onnx")
    return folder / "block.onnx"


def planned(model: onnx.ModelProto, folder: Path, **sections: Any) -> Plan:
    with closing(Store(folder / "store.db")) as store:
        constraints = request(saved(model, folder), **sections)
        return pipeline.plan(constraints, store=store).plan


@pytest.fixture(scope="module")
def block_plan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    """Where it was planned, and the plan of a small block; never altered."""
    folder = tmp_path_factory.mktemp("block")
    return folder, planned(models.block(width=256), folder)


def text_of(renderable: Any) -> str:
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_plan_says_what_runs_and_how_far_from_the_floor_it_is(
    block_plan: tuple[Path, Plan],
) -> None:
    _, plan = block_plan
    assert plan.fusion is not None
    assert (plan.fusion.device, plan.fusion.architectures) == (H200, (80, 89, 90))
    assert plan.fusion.covered_ops == plan.fusion.ops == plan.model.ops
    (bucket,) = plan.fusion.buckets
    (segment,) = bucket.segments
    assert segment.kind == "fused"
    assert {op for launch in segment.launches for op in launch.ops} == set(segment.ops)
    assert segment.launches[0].edge == "first"
    assert all(launch.edge == "dependent launch" for launch in segment.launches[1:])
    assert bucket.floor.levels == 2
    assert bucket.distance > 1
    assert plan.solver.status == "optimal"
    text = text_of(explain(plan))
    assert "floor" in text
    assert "2 levels x 0.62" in text
    assert plan.fusion.operators_in_a_row == 6
    assert f"{len(segment.launches)} launches in a row" in text
    assert "6 operators in a row" in text
    assert bucket.levels <= bucket.in_a_row == len(segment.launches)
    figure = drawn(plan, built_of(None, plan), as_html=False)
    assert figure.startswith("<svg")
    assert figure.count("<title>") == len(segment.launches)


def test_what_kernels_were_tuned_with_is_told_and_compared(block_plan: tuple[Path, Plan]) -> None:
    _, plan = block_plan

    def tuned(percent: int) -> Plan:
        assert plan.fusion is not None
        (bucket,) = plan.fusion.buckets
        (segment,) = bucket.segments
        changed: Any = segment.model_copy(update={"shared_percent": percent})
        bucket = bucket.model_copy(update={"segments": (changed,), "measured_us": 9.0})
        fusion = plan.fusion.model_copy(update={"buckets": (bucket,)})
        return plan.model_copy(update={"fusion": fusion})

    assert "kernels ask for 25 % as shared memory" in " ".join(text_of(explain(tuned(25))).split())
    (moved,) = (one for one in compare(tuned(25), tuned(-1)).effects if one.what == "shared memory")
    assert (moved.before, moved.after) == ("25 %", "as the driver chooses")
    assert not any(one.what == "shared memory" for one in compare(plan, plan).effects)


def test_the_same_plan_is_the_same_bytes(tmp_path: Path, block_plan: tuple[Path, Plan]) -> None:
    folder, plan = block_plan
    first = write_plan(tmp_path / "a.json", plan)
    second = write_plan(tmp_path / "b.json", planned(models.block(width=256), folder))
    assert first == second == read_plan(tmp_path / "a.json")


def test_a_gpu_without_dependent_launch_pays_for_nodes(block_plan: tuple[Path, Plan]) -> None:
    plan = planned(models.block(width=256), block_plan[0], target="l4-24gb")
    assert plan.fusion is not None
    edges = {e.edge for s in plan.fusion.buckets[0].segments for e in s.launches}
    assert edges <= {"first", "graph node"}
    assert plan.fusion.buckets[0].floor.level_us > 0.62


def test_a_promise_nothing_can_keep_is_refused_with_what_can(
    block_plan: tuple[Path, Plan],
) -> None:
    with pytest.raises(InfeasibleError, match=r"proved.*fastest feasible plan"):
        planned(models.block(width=256), block_plan[0], slo="1us")


def test_no_narrow_format_where_no_error_is_allowed(block_plan: tuple[Path, Plan]) -> None:
    folder, loose = block_plan
    strict = planned(models.block(width=256), folder, accuracy={"max_error": 1e-12})
    assert strict.fusion is not None
    assert strict.fusion.number_format == "float32"
    assert loose.fusion is not None
    assert loose.fusion.number_format == "float16"


def test_a_model_that_nothing_covers_says_which_operators(tmp_path: Path) -> None:
    node = onnx.helper.make_node("TopK", ["x", "k"], ["y", "i"], axis=1, name="sort")
    model = models.model([node], {"x": (4, 8)}, {"y": (4, 3)}, {"k": np.array([3], np.int64)})
    with pytest.raises(NotFused, match=r"sort: operator TopK"):
        read_cuts(saved(model, tmp_path), [{}], 1000)


@pytest.fixture(scope="module")
def built_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan with a part that no kernel covers, and its engine; never altered."""
    folder = tmp_path_factory.mktemp("elsewhere")
    plan = write_plan(folder / "plan.json", planned(uncovered_in_the_middle(), folder))
    with pytest.MonkeyPatch.context() as patch:  # what the plan compiled is not compiled again
        patch.setenv("INFOPT_CACHE", str(folder))
        return plan, pipeline.build(plan, folder / "engine")


@needs_triton
def test_an_engine_built_elsewhere_is_complete_and_unverified(
    built_elsewhere: tuple[Plan, Path],
) -> None:
    plan, engine = built_elsewhere
    manifest = read_manifest(engine)
    kinds = [segment.kind for stage in manifest.stages for segment in stage.segments]
    assert kinds == ["fused", "ort", "fused"]
    assert manifest.built_for == H200
    for segment in manifest.fused_segments:
        found = fused.read(engine / segment.folder)
        assert {item.architecture for item in found.binaries} == {80, 89, 90}
        assert all(item.stack_size_bytes == 0 for item in found.binaries)
        assert (engine / segment.library.file).exists()
    verdict = pipeline.verify(engine)
    assert verdict.passed
    assert any("unverified" in check.detail for check in verdict.checks)
    with pytest.raises(EnvironmentMismatchError):
        load(engine)
    built = built_of(engine, plan)
    assert built.binaries
    assert "regs" in text_of(explain(plan, None, built))


@needs_triton
def test_an_altered_cubin_is_refused(tmp_path: Path, built_elsewhere: tuple[Plan, Path]) -> None:
    engine = Path(shutil.copytree(built_elsewhere[1], tmp_path / "engine"))
    cubin = next(engine.rglob("*.cubin"))
    cubin.write_bytes(cubin.read_bytes()[:-1] + b"\1")
    with pytest.raises(VerificationError, match="cubin"):
        pipeline.verify(engine)


@needs_triton
def test_edges_of_the_plan_are_those_of_the_engine(
    tmp_path: Path, block_plan: tuple[Path, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plan = block_plan
    monkeypatch.setenv("INFOPT_CACHE", str(folder))
    assert plan.fusion is not None
    (bucket,) = plan.fusion.buckets
    (segment,) = bucket.segments
    launches = [
        launch.model_copy(update={"edge": "graph node", "lets_go_early": True})
        if position
        else launch
        for position, launch in enumerate(segment.launches)
    ]
    assert len(launches) > 1
    segment = segment.model_copy(update={"launches": tuple(launches)})
    bucket = bucket.model_copy(update={"segments": (segment,)})
    fusion = plan.fusion.model_copy(update={"buckets": (bucket,)})
    changed = write_plan(tmp_path / "plan.json", plan.model_copy(update={"fusion": fusion}))
    engine = pipeline.build(changed, tmp_path / "engine")
    (part,) = read_manifest(engine).fused_segments
    found = fused.read(engine / part.folder).launches
    assert [launch.ahead for launch in found] == [True] + [False] * (len(launches) - 1)
    assert [launch.kernel.endswith("_o") for launch in found] == [False] + [True] * (len(found) - 1)


@needs_triton
def test_buckets_share_weights_and_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path))
    model = models.block()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    workload = [
        {"name": "short", "shapes": {"x": [16, 64]}},
        {"name": "long", "shapes": {"x": [48, 64]}},
    ]
    plan = write_plan(tmp_path / "plan.json", planned(model, tmp_path, workload=workload))
    assert plan.fusion is not None
    assert [bucket.shape for bucket in plan.fusion.buckets] == ["short", "long"]
    engine = pipeline.build(plan, tmp_path / "engine")
    (segment,) = read_manifest(engine).fused_segments
    found = fused.read(engine / segment.folder)
    assert [bucket.inputs[0].shape for bucket in found.buckets] == [(16, 64), (48, 64)]
    one = sum(np.prod(init.dims) for init in model.graph.initializer)
    assert found.weights_size_bytes < 1.5 * 4 * one
    assert (
        json.loads((engine / segment.folder / fused.FILE).read_text())["version"] == fused.VERSION
    )
