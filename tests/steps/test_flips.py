"""What packed products on several ranks may differ by is measured, and no more than that."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from planner import pipeline
from planner.compress.weight_only import INT8_WO, WeightOnly
from planner.emit.golden import MAX_NMSE
from planner.emit.partition import StageCut, cut_of, partition, read
from planner.graph.load import load
from planner.ops.sharding import Axis, Index, Kind
from planner.progress import Silent
from planner.runtime.compare import max_nmse
from planner.runtime.integrity import read_manifest
from planner.spec.execution import StageExecution
from planner.spec.io import sealed
from planner.spec.plan import ModelRef, Plan
from planner.steps import measured
from planner.steps.flips import MOST_NMSE, flip_limit, unrounded
from tests.emit.test_packed import BOTH, feed_forward, packed
from tests.emit.test_partition import execute, feeds_of, model_of, options, weight, whole
from tests.runtime.build import SETTINGS, make_plan, tensor

MODELLED_ERROR = 5e-2
"""Of a plan made by a model of errors, far from what this one has."""
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None and importlib.util.find_spec("torch") is None,
    reason="neither mpi4py nor torch is installed",
)


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def product(depth: int) -> onnx.ModelProto:
    return model_of(
        [("MatMul", ["x", "W"], ["y"], {})],
        [tensor("x", TensorProto.FLOAT, [4, depth])],
        [tensor("y", TensorProto.FLOAT, [4, 8])],
        {"W": weight(depth, 8)},
    )


def plan_of(model: onnx.ModelProto, method: WeightOnly, folder: Path) -> Plan:
    """Every product packed and shared by two ranks along K; names as loading leaves them."""
    for node in model.graph.node:
        node.name = node.name.replace(" ", "_")
    path = folder / "model.onnx"
    onnx.save(model, path)
    known = load(path)
    proto, (graph,) = read(path)
    sums = {
        op: cut_of(next(index for index in found if index.kind is Kind.SUM))
        for op, found in options(proto, graph).items()
        if any(index.kind is Kind.SUM for index in found)
    }
    shape = model.graph.input[0].type.tensor_type.shape
    plan = make_plan({"x": tuple(dim.dim_value for dim in shape.dim)})
    stage = StageExecution(
        ranks=(0, 1), threads=1, ops=tuple(node.name for node in model.graph.node), cuts=sums
    )
    reference = ModelRef(
        path=str(path), sha256=known.sha256, size_bytes=known.size_bytes, ops=6, parameters=1
    )
    told = {
        "model": reference,
        "shipped": "plan",
        "formats": {op: str(method.format) for op in sums},
        "execution": (stage,),
        "accuracy": plan.accuracy.model_copy(update={"measured_error": MODELLED_ERROR}),
    }
    return sealed(plan.model_copy(update=told))


@needs_library
@BOTH
def test_the_limit_is_what_rounding_costs_not_what_the_plan_allows(
    method: WeightOnly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "_BUDGET_S", 0.1)
    engine = pipeline.build(plan_of(feed_forward(), method, tmp_path), tmp_path / "engine")
    (golden,) = read_manifest(engine).golden
    assert MAX_NMSE <= golden.max_nmse <= MOST_NMSE
    checks = [check for check in pipeline.verify(engine).checks if "golden" in check.name]
    assert checks
    assert all(check.passed for check in checks)


def test_what_every_rank_keeps_whole_is_told(tmp_path: Path) -> None:
    listener = Notes()
    plan = plan_of(product(48), INT8_WO, tmp_path)
    pipeline.build(plan, tmp_path / "engine", reporter=listener)
    (told,) = [text for text in listener.told if "once packed" in text]
    assert "'op_y' cannot be shared" in told


@pytest.mark.parametrize("depth", [48, 100])
def test_a_wrong_cut_is_beyond_the_limit(depth: int, tmp_path: Path) -> None:
    path = packed(INT8_WO, tmp_path, product(depth), "op y")
    model, (graph,) = read(path)
    feeds = feeds_of(model, 1)
    one = whole(path, feeds)
    limit = flip_limit(whole(unrounded(path), feeds), one)
    assert 0 < limit <= MOST_NMSE
    (op,) = graph.ops
    ranks = -(-depth // 32)
    axes = (Axis(0, 1, depth // ranks), *(Axis(slot, 1) for slot in (1, 2, 3)))
    cut = StageCut(
        tuple(range(ranks)), frozenset((op.name,)), {op.name: Index(Kind.SUM, ranks, axes)}
    )
    parts = partition(model, (graph,), [cut], tmp_path / "parts", SETTINGS, tmp_path)
    found = execute(parts, feeds, ranks)
    assert max_nmse(one, {name: found[name] for name in one}) > limit
