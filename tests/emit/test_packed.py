"""Products whose weights are packed in blocks of few bits are shared by ranks like any others."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from planner.compress.base import BuildContext, BuildSettings
from planner.compress.weight_only import INT4_WO, INT8_WO, WeightOnly
from planner.emit.blueprint import Part
from planner.emit.partition import StageCut, cut_of, partition, read, stage_cuts
from planner.emit.partition import options as every_index
from planner.ops.sharding import Index, Kind
from planner.spec.execution import StageExecution
from tests.emit.test_partition import Node, check, check_any_choice, model_of, options, weight
from tests.runtime.build import SETTINGS, tensor

BOTH = pytest.mark.parametrize("method", [INT4_WO, INT8_WO], ids=lambda method: str(method.format))

FLIPS = 2e-2
"""The kernel rounds activations to 8 bits: sums that differ in their last bit may round apart, by
one step of a block (about 1/40) times a weight (1/8) each. A wrong cut is off by whole products."""


def feed_forward() -> onnx.ModelProto:
    """Normalisation, two products with a bias between, a residual; 4 and 8 blocks along K."""
    nodes: list[Node] = [
        ("LayerNormalization", ["x", "g", "b"], ["n"], {"axis": -1}),
        ("MatMul", ["n", "W1"], ["f0"], {}),
        ("Add", ["f0", "c"], ["f1"], {}),
        ("Relu", ["f1"], ["f2"], {}),
        ("MatMul", ["f2", "W2"], ["f3"], {}),
        ("Add", ["f3", "x"], ["y"], {}),
    ]
    weights = {
        "g": weight(128), "b": weight(128), "W1": weight(128, 256) / 8,
        "c": weight(256), "W2": weight(256, 128) / 8,
    }  # fmt: skip
    return model_of(
        nodes,
        [tensor("x", TensorProto.FLOAT, [2, 4, 128])],
        [tensor("y", TensorProto.FLOAT, [2, 4, 128])],
        weights,
    )


def packed(
    method: WeightOnly, folder: Path, plain: onnx.ModelProto | None = None, *ops: str
) -> Path:
    """A model with products packed: the feed-forward with both of its own, or another."""
    context = BuildContext({}, BuildSettings(), folder)
    model = method.build(plain or feed_forward(), set(ops) or {"op f0", "op f3"}, context)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


@BOTH
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_choice_of_indices_gives_the_same_answers(
    method: WeightOnly, data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        check_any_choice(packed(method, Path(folder)), data, tolerance=FLIPS)


def look_up() -> onnx.ModelProto:
    """Rows of a table of 4 blocks, and a residual."""
    nodes: list[Node] = [
        ("Gather", ["table", "ids"], ["rows"], {}),
        ("Relu", ["rows"], ["r"], {}),
        ("Add", ["r", "rows"], ["y"], {}),
    ]
    return model_of(
        nodes,
        [tensor("ids", TensorProto.INT64, [2, 4])],
        [tensor("y", TensorProto.FLOAT, [2, 4, 128])],
        {"table": weight(10, 128)},
    )


@BOTH
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_packed_tables_are_shared_by_positions_and_columns(
    method: WeightOnly, data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        path = packed(method, Path(folder), look_up(), "op rows")
        known = _options(path)
        assert all(known.values()), "shapes behind a packed table are known"
        check_any_choice(path, data)


def test_ranks_hold_their_blocks_of_a_table(tmp_path: Path) -> None:
    path = packed(INT4_WO, tmp_path, look_up(), "op rows")
    model, (graph,) = read(path)
    found = options(model, graph)["op rows_Q4"]
    assert [i.extent for i in found if any(a.slot == 0 for a in i.inputs)] == [4]
    (columns,) = (i for i in found if any(a.slot == 0 for a in i.inputs))
    cut = StageCut((0, 1), frozenset(op.name for op in graph.ops), {"op rows_Q4": columns})
    parts = partition(model, (graph,), [cut], tmp_path / "seen", SETTINGS, tmp_path)
    stored = {
        item.name: list(item.dims)
        for part in parts
        if isinstance(part, Part)
        for item in onnx.load(part.onnx_path).graph.initializer
    }
    assert stored["table_Q4@cut1"] == [10, 64]
    check(path, [cut], 3)


def _options(path: Path) -> dict[str, tuple[Index, ...]]:
    model, (graph,) = read(path)
    return options(model, graph)


@BOTH
def test_a_plan_of_plain_products_cuts_the_packed_ones_alike(
    method: WeightOnly, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.onnx"
    onnx.save(feed_forward(), plain)
    known = _options(plain)
    columns = next(i for i in known["op f0"] if [(a.slot, a.axis) for a in i.inputs] == [(1, 1)])
    inner = next(i for i in known["op f3"] if i.kind is Kind.SUM)
    along = {op: next(i for i in known[op] if i.extent == 256) for op in ("op f1", "op f2")}
    cuts = {"op f0": columns, "op f3": inner, **along}
    stage = StageExecution(
        device="cpu", ranks=(0, 1), threads=1, ops=tuple(known),
        cuts={op: cut_of(index) for op, index in cuts.items()},
    )  # fmt: skip

    path = packed(method, tmp_path)
    model, (graph,) = read(path)
    (found,) = stage_cuts(model, (graph,), [stage])
    bits = method.bits
    assert found.choices[f"op f0_Q{bits}"].kind is Kind.PARALLEL
    assert found.choices[f"op f3_Q{bits}"].kind is Kind.SUM
    parts = partition(model, (graph,), [found], tmp_path / "parts", SETTINGS, tmp_path)
    stored = {
        item.name: list(item.dims)
        for part in parts
        if isinstance(part, Part)
        for item in onnx.load(part.onnx_path).graph.initializer
    }
    assert stored[f"W1_Q{bits}@cut0"] == [128, 4, 4 * bits]
    assert stored[f"W2_Q{bits}@cut1"] == [128, 4, 4 * bits]
    (tmp_path / "parts").rename(tmp_path / "seen")
    check(path, [found], 3, tolerance=FLIPS)


def test_blocks_that_cannot_be_shared_stay_whole(tmp_path: Path) -> None:
    path = packed(INT4_WO, tmp_path)
    model, (graph,) = read(path)
    sums = [i for op in ("op f0_Q4", "op f3_Q4") for i in options(model, graph)[op]]
    assert {i.extent for i in sums if i.kind is Kind.SUM} == {2, 4}, "two 4-bit zeros a byte"


@BOTH
@pytest.mark.parametrize("depth", [48, 64, 96, 100, 240])
def test_only_whole_blocks_are_shared(method: WeightOnly, depth: int, tmp_path: Path) -> None:
    product = model_of(
        [("MatMul", ["x", "W"], ["y"], {})],
        [tensor("x", TensorProto.FLOAT, [4, depth])],
        [tensor("y", TensorProto.FLOAT, [4, 8])],
        {"W": weight(depth, 8)},
    )
    shared = set()
    for ranks in (2, 3, 4, 8):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        path = packed(method, folder, product, "op y")
        model, (graph,) = read(path)
        (op,) = graph.ops
        sums = [i for i in every_index(model, (graph,))[op.name] if i.kind is Kind.SUM]
        for index in (i for i in sums if i.extent % ranks == 0):
            shared.add(ranks)
            cut = StageCut(tuple(range(ranks)), frozenset((op.name,)), {op.name: index})
            check(path, [cut], 5, ranks, tolerance=FLIPS)
    whole_blocks = {(64, 8): {2}, (96, 8): {3}}
    assert shared == whole_blocks.get((depth, method.bits), set())


@BOTH
def test_what_stays_whole_against_the_plan_is_named(method: WeightOnly, tmp_path: Path) -> None:
    product = model_of(
        [("MatMul", ["x", "W"], ["y"], {})],
        [tensor("x", TensorProto.FLOAT, [4, 48])],
        [tensor("y", TensorProto.FLOAT, [4, 8])],
        {"W": weight(48, 8)},
    )
    plain = tmp_path / "plain.onnx"
    onnx.save(product, plain)
    model, (graph,) = read(packed(method, tmp_path, product, "op y"))
    for index in _options(plain)["op y"]:
        stage = StageExecution(
            device="cpu", ranks=(0, 1), threads=1, ops=("op y",), cuts={"op y": cut_of(index)}
        )
        (cut,) = stage_cuts(model, (graph,), [stage])
        is_shared = index.kind is Kind.PARALLEL
        assert cut.kept_whole == (() if is_shared else ("op y",))
        assert bool(cut.choices) is is_shared
