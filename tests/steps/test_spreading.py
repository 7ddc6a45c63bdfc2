"""From a plan for one device to ranks that answer alike: real processes, the whole way."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest

from planner import pipeline, runtime
from planner.errors import EnvironmentMismatchError, ModelError, UsageError, VerificationError
from planner.graph.load import load
from planner.progress import Silent
from planner.runtime.ranks.bench import measure_links
from planner.spec.execution import Cut
from planner.spec.io import sealed
from planner.spec.plan import ModelRef, Plan, WorkloadShape
from planner.steps import measured
from planner.steps.files import files_of
from planner.steps.reading import planned_model
from planner.steps.workspace import workspace
from tests.emit.test_partition import Node, block, feeds_of, model_of, weight, whole
from tests.emit.test_partition_shapes import varied
from tests.runtime.build import make_plan, tensor

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None and importlib.util.find_spec("torch") is None,
    reason="neither mpi4py nor torch is installed",
)


@pytest.fixture(scope="module", autouse=True)
def _measured_once() -> Iterator[None]:
    """Links are measured once for each number of ranks, and engines for a moment: no test looks at
    how fast they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("planner.steps.spreading.measure_links", functools.cache(measure_links))
        patch.setattr(measured, "_BUDGET_S", 0.1)
        yield


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Of a small transformer, as it came."""
    path = tmp_path / "model.onnx"
    onnx.save(block(), path)
    return plan_of(path, {"default": (2, 6)})


def plan_of(path: Path, shapes: Mapping[str, tuple[int, ...]], name: str = "ids") -> Plan:
    """Of a file, as it came, with these shapes of its one input."""
    known = load(path)
    model = ModelRef(
        path=str(path), sha256=known.sha256, size_bytes=known.size_bytes, ops=30, parameters=1
    )
    plain = make_plan({name: next(iter(shapes.values()))})
    estimate = plain.prediction.latency_p50_us["default"]
    latency = dict.fromkeys(shapes, estimate)
    prediction = plain.prediction.model_copy(
        update={"latency_p50_us": latency, "latency_slo_us": latency}
    )
    workload = tuple(
        WorkloadShape(name=each, shapes={name: shape}) for each, shape in shapes.items()
    )
    return sealed(
        plain.model_copy(update={"model": model, "workload": workload, "prediction": prediction})
    )


@needs_library
@pytest.mark.parametrize(("tensor", "stages"), [(1, 3), (2, 2)])
def test_a_spread_plan_deploys_and_answers_alike(
    plan: Plan, tmp_path: Path, tensor: int, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.steps.spreading._TYPICAL_LINK_US", 0.001)
    spread = sealed(pipeline.spread(plan, tensor=tensor, stages=stages))
    assert spread.ranks == tensor * stages
    assert any(stage.cuts for stage in spread.execution) == (tensor > 1)
    estimate = spread.prediction.latency_p50_us["default"]
    assert 0 < estimate.low <= estimate.expected <= estimate.high
    engine = pipeline.build(spread, tmp_path / "engine")
    verdict = pipeline.verify(engine)
    assert {check.name: check.passed for check in verdict.checks if "golden" in check.name}
    assert all(check.passed for check in verdict.checks if check.name != "latency")
    feeds = feeds_of(block(), 7)
    with runtime.load(engine) as session:
        found = session.run(feeds)
    for name, value in whole(tmp_path / "model.onnx", feeds).items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-4)


@needs_library
@pytest.mark.parametrize(("tensor", "stages"), [(2, 1), (1, 2)])
def test_several_shapes_on_two_processes(
    tmp_path: Path, tensor: int, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.steps.spreading._TYPICAL_LINK_US", 0.001)
    path = tmp_path / "model.onnx"
    onnx.save(varied(), path)
    plan = plan_of(path, {"short": (2, 6), "long": (3, 9)})
    spread = sealed(pipeline.spread(plan, tensor=tensor, stages=stages))
    assert spread.ranks == 2
    assert any(stage.cuts for stage in spread.execution) == (tensor > 1)
    assert set(spread.prediction.latency_p50_us) == {"short", "long"}
    engine = pipeline.build(spread, tmp_path / "engine")
    verdict = pipeline.verify(engine)
    assert all(check.passed for check in verdict.checks if check.name not in ("latency", "slo"))
    assert set(verdict.measured_us) == {"short", "long"}
    with runtime.load(engine) as session:
        for shape in ((2, 6), (3, 9), (1, 4)):  # the last one was never planned for
            feeds = {"ids": np.random.default_rng(1).integers(-10, 10, shape)}
            found = session.run(feeds)
            for name, value in whole(path, feeds).items():
                np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-4)


def simplified(plan: Plan) -> onnx.ModelProto:
    """The file whose operators a plan names."""
    path = Path(plan.model.path)
    with workspace(Silent()) as work:
        files = files_of(plan, planned_model(plan.model, path, work), work)
        return onnx.load(files.model_path)


def layers() -> onnx.ModelProto:
    """Two layers with a residual around them."""
    nodes: list[Node] = [
        ("Gemm", ["x", "W1", "b1"], ["f0"], {}),
        ("Relu", ["f0"], ["f1"], {}),
        ("Gemm", ["f1", "W2", "b2"], ["f2"], {}),
        ("Add", ["f2", "x"], ["y"], {}),
    ]
    weights = {
        "W1": weight(128, 256) / 8, "b1": weight(256), "W2": weight(256, 128) / 8, "b2": weight(128)
    }  # fmt: skip
    return model_of(
        nodes,
        [tensor("x", onnx.TensorProto.FLOAT, [8, 128])],
        [tensor("y", onnx.TensorProto.FLOAT, [8, 128])],
        weights,
    )


@needs_library
@pytest.mark.parametrize(
    ("form", "tensor", "stages"), [("int8_dynamic", 1, 2), ("int8_static", 2, 1)]
)
def test_integer_products_on_two_processes(
    tmp_path: Path, form: str, tensor: int, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.steps.spreading._TYPICAL_LINK_US", 0.001)
    path = tmp_path / "model.onnx"
    onnx.save(layers(), path)
    plain = plan_of(path, {"default": (8, 128)}, name="x")
    graph = simplified(plain).graph
    products = [node.name for node in graph.node if node.op_type in ("Gemm", "MatMul")]
    tensors = {name for node in graph.node for name in (*node.input, *node.output)}
    plan = plain.model_copy(
        update={
            "formats": dict.fromkeys(products, form),
            "ranges": dict.fromkeys(tensors, (-4.0, 4.0)),
            "accuracy": plain.accuracy.model_copy(update={"measured_error": 1e-3}),
        }
    )
    assert pipeline.obstacles(plan) == ()
    spread = sealed(pipeline.spread(sealed(plan), tensor=tensor, stages=stages))
    assert spread.ranks == 2
    assert any(stage.cuts for stage in spread.execution) == (tensor > 1)
    engine = pipeline.build(spread, tmp_path / "engine")
    stored = [
        item.data_type
        for file in engine.rglob("model.onnx")
        for item in onnx.load(file).graph.initializer
        if len(item.dims) == 2
    ]
    assert set(stored) <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    verdict = pipeline.verify(engine)
    broken = [c for c in verdict.checks if not c.passed and c.name not in ("latency", "slo")]
    assert not broken
    feeds = {"x": np.random.default_rng(1).standard_normal((8, 128)).astype(np.float32)}
    with runtime.load(engine) as session:
        found = session.run(feeds)
    for name, value in whole(path, feeds).items():
        assert np.mean((found[name] - value) ** 2) < 1e-3 * np.mean(value**2)


@needs_library
def test_a_plan_edited_by_hand_to_cut_what_cannot_be_cut(plan: Plan, tmp_path: Path) -> None:
    spread = pipeline.spread(plan, stages=2)
    first = spread.execution[0]
    wrong = first.model_copy(update={"cuts": {first.ops[0]: Cut(kind="sum", operands=((0, 7),))}})
    edited = sealed(spread.model_copy(update={"execution": (wrong, *spread.execution[1:])}))
    with pytest.raises(VerificationError, match="cannot be cut"):
        pipeline.build(edited, tmp_path / "engine")


def test_gpus_that_are_not_here_build_and_refuse_to_run(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.steps.spreading.count_gpus", lambda: 0)
    monkeypatch.setattr("planner.runtime.ranks.session.count_gpus", lambda: 0)
    spread = sealed(pipeline.spread(plan, stages=2, device="cuda"))
    engine = pipeline.build(spread, tmp_path / "engine")
    with pytest.raises(EnvironmentMismatchError, match="needs 2 GPUs; this machine has 0") as found:
        pipeline.verify(engine)
    assert found.value.exit_code == 5


Device = Literal["cpu", "cuda"]


def test_what_cannot_be_spread_is_refused(plan: Plan) -> None:
    with pytest.raises(ModelError, match="make no 64 stages"):
        pipeline.spread(plan, stages=64)
    other = plan.model_copy(update={"model": plan.model.model_copy(update={"sha256": "1" * 64})})
    with pytest.raises(UsageError, match="not the model"):
        pipeline.spread(other, stages=2)
