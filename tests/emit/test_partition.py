"""Whatever operators are cut along, the ranks together answer as the whole model does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from planner.emit.blueprint import Part, Talk
from planner.emit.partition import StageCut, partition, read
from planner.emit.partition.adopt import adopted
from planner.errors import ModelError
from planner.ir.graph import Graph, Op
from planner.ops.sharding import Call, Index, indices
from planner.runtime.ort import make_session
from planner.runtime.ranks.fabric import slice_of
from planner.spec.session import SessionSettings
from tests.runtime.build import SETTINGS, make_model, tensor

Array = np.ndarray[Any, Any]
RANKS = 2
_RNG = np.random.default_rng(0)


def weight(*shape: int) -> Array:
    """Random float32 values of moderate size."""
    return (_RNG.standard_normal(shape) / 2).astype(np.float32)


Node = tuple[str, list[str], list[str], dict[str, Any]]


def _projection(name: str) -> list[Node]:
    return [
        ("MatMul", ["n", f"W{name}"], [f"{name}0"], {}),
        ("Add", [f"{name}0", f"b{name}"], [f"{name}1"], {}),
        ("Reshape", [f"{name}1", "heads"], [f"{name}2"], {}),
        ("Transpose", [f"{name}2"], [f"{name}3"], {"perm": [0, 2, 1, 3]}),
    ]


def block() -> onnx.ModelProto:
    """Embedding, attention of 4 heads, feed-forward, normalisations, residuals."""
    nodes: list[Node] = [
        ("Gather", ["table", "ids"], ["x"], {}),
        ("LayerNormalization", ["x", "g", "b"], ["n"], {"axis": -1}),
        *(node for name in "qkv" for node in _projection(name)),
        ("Transpose", ["k3"], ["k4"], {"perm": [0, 1, 3, 2]}),
        ("MatMul", ["q3", "k4"], ["s0"], {}),
        ("Div", ["s0", "root"], ["s1"], {}),
        ("Softmax", ["s1"], ["s2"], {"axis": -1}),
        ("MatMul", ["s2", "v3"], ["o0"], {}),
        ("Transpose", ["o0"], ["o1"], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["o1", "merged"], ["o2"], {}),
        ("MatMul", ["o2", "Wo"], ["o3"], {}),
        ("Add", ["o3", "x"], ["r"], {}),
        ("MatMul", ["r", "W1"], ["f0"], {}),
        ("Relu", ["f0"], ["f1"], {}),
        ("MatMul", ["f1", "W2"], ["f2"], {}),
        ("Add", ["f2", "r"], ["y"], {}),
        ("ReduceSum", ["y", "one"], ["pooled"], {"keepdims": 0}),
    ]
    weights = {
        "table": weight(10, 8), "g": weight(8), "b": weight(8),
        **{f"W{name}": weight(8, 8) for name in "qkvo"},
        **{f"b{name}": weight(8) for name in "qkv"},
        "heads": np.array([0, -1, 4, 2]), "merged": np.array([2, 6, 8]), "root": np.float32(1.4),
        "W1": weight(8, 12), "W2": weight(12, 8), "one": np.array([1]),
    }  # fmt: skip
    return model_of(
        nodes,
        [tensor("ids", TensorProto.INT64, [2, 6])],
        [tensor("y", TensorProto.FLOAT, [2, 6, 8]), tensor("pooled", TensorProto.FLOAT, [2, 8])],
        {name: np.asarray(value) for name, value in weights.items()},
    )


def convolutions() -> onnx.ModelProto:
    """Plain and grouped convolutions, normalisation, pools, a classifier with a bias."""
    nodes: list[Node] = [
        ("Conv", ["image", "K1", "c1"], ["a"], {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", ["a", "s", "t", "mean", "var"], ["n"], {}),
        ("Relu", ["n"], ["r"], {}),
        ("Conv", ["r", "K2", "c2"], ["d"], {"group": 4, "pads": [1, 1, 1, 1]}),
        ("MaxPool", ["d"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Conv", ["p", "K3", "c1"], ["e"], {}),
        ("GlobalAveragePool", ["e"], ["f"], {}),
        ("Flatten", ["f"], ["h"], {}),
        ("Gemm", ["h", "W", "w"], ["y"], {"transB": 1}),
    ]
    weights = {
        "K1": weight(8, 4, 3, 3), "c1": weight(8), "s": weight(8), "t": weight(8),
        "mean": weight(8), "var": np.abs(weight(8)) + 1, "K2": weight(8, 2, 3, 3), "c2": weight(8),
        "K3": weight(8, 8, 1, 1), "W": weight(6, 8), "w": weight(6),
    }  # fmt: skip
    return model_of(
        nodes,
        [tensor("image", TensorProto.FLOAT, [2, 4, 6, 6])],
        [tensor("y", TensorProto.FLOAT, [2, 6])],
        weights,
    )


def model_of(
    nodes: Sequence[Node],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, Array],
) -> onnx.ModelProto:
    """A model of named operators."""
    made = [helper.make_node(k, i, o, f"op {o[0]}", **a) for k, i, o, a in nodes]
    return make_model(made, inputs, outputs, weights)


MODELS = {"block": block(), "convolutions": convolutions()}


def feeds_of(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Random inputs; positions may be negative."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for value in model.graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        is_float = value.type.tensor_type.elem_type == TensorProto.FLOAT
        found[value.name] = (
            rng.standard_normal(shape).astype(np.float32)
            if is_float
            else rng.integers(-10, 10, shape)
        )
    return found


def options(model: onnx.ModelProto, graph: Graph) -> dict[str, tuple[Index, ...]]:
    """Everything that each operator can be cut along by two ranks."""
    nodes = {node.name: node for node in model.graph.node}
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}

    def shape(name: str) -> tuple[int, ...] | None:
        return graph.tensors[name].shape if name else None

    def value(name: str) -> tuple[int, ...] | None:
        array = stored.get(name)
        if array is None or array.dtype.kind != "i":
            return None
        return tuple(int(item) for item in array.reshape(-1))

    def found(op: Op) -> tuple[Index, ...]:
        attributes = {a.name: helper.get_attribute_value(a) for a in nodes[op.name].attribute}
        call = Call(
            op.kind,
            tuple(map(shape, op.inputs)),
            tuple(map(shape, op.outputs)),
            attributes,
            tuple(map(value, op.inputs)),
        )
        return tuple(index for index in indices(call) or () if index.extent % RANKS == 0)

    return {op.name: found(op) for op in graph.ops}


def execute(parts: Sequence[Part | Talk], feeds: Mapping[str, Array], ranks: int) -> dict[str, Any]:
    """What rank 0 has in the end; every rank's part run by ONNX Runtime, collectives by NumPy."""
    alive: list[dict[str, Array]] = [dict(feeds) for _ in range(ranks)]
    for part in parts:
        if isinstance(part, Talk):
            _talk(part, alive)
            continue
        for place, rank in enumerate(part.ranks):
            path = part.shard_paths[place - 1] if place and part.shard_paths else part.onnx_path
            session = make_session(path, part.settings)
            own = {name: alive[rank][name] for name in part.inputs}
            values = session.run(list(part.outputs), own)
            alive[rank].update(zip(part.outputs, values, strict=True))
        for rank in set(range(ranks)) - set(part.ranks):  # what a stage makes whole, others get
            whole = {name: alive[part.ranks[0]][name] for name in part.outputs if "@" not in name}
            alive[rank].update(whole)
    return alive[0]


def _talk(talk: Talk, alive: list[dict[str, Array]]) -> None:
    segment, ranks = talk.segment, talk.ranks
    values = [alive[rank][segment.tensor] for rank in ranks]
    total = np.sum(values, axis=0, dtype=values[0].dtype) if "reduce" in segment.operation else None
    for place, rank in enumerate(ranks):
        if segment.operation == "all_reduce":
            assert total is not None
            made = total
        elif segment.operation == "all_gather":
            made = np.concatenate(values, axis=segment.axis)
        else:
            assert total is not None
            assert segment.axis is not None
            made = slice_of(total, segment.axis, place, len(ranks))
        alive[rank][segment.result] = made
    for rank in set(range(len(alive))) - set(ranks):
        alive[rank][segment.result] = alive[ranks[0]][segment.result]


def whole(path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The unsharded model's answers."""
    session = make_session(path, SETTINGS)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def check(
    path: Path, cuts: Sequence[StageCut], seed: int, ranks: int = RANKS, *, tolerance: float = 2e-4
) -> None:
    """Partition, run, compare."""
    model, (graph,) = read(path)
    parts = partition(model, (graph,), cuts, path.parent / "parts", SETTINGS, path.parent)
    feeds = feeds_of(model, seed)
    found = execute(parts, feeds, ranks)
    for name, value in whole(path, feeds).items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance)


def check_any_choice(path: Path, data: st.DataObject, *, tolerance: float = 2e-4) -> None:
    """Each operator whole or by an index drawn for it, on two ranks."""
    model, (graph,) = read(path)
    choices = {}
    for op, found in options(model, graph).items():
        picked = data.draw(st.sampled_from([None, *found]), label=op)
        if picked is not None:
            choices[op] = picked
    cut = StageCut((0, 1), frozenset(op.name for op in graph.ops), choices)
    check(path, [cut], data.draw(st.integers(0, 99)), tolerance=tolerance)


@pytest.mark.parametrize("name", sorted(MODELS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_choice_of_indices_gives_the_same_answers(name: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(MODELS[name], path)
        check_any_choice(path, data)


@pytest.mark.parametrize("name", sorted(MODELS))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_stages_give_the_same_answers(name: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(MODELS[name], path)
        model, (graph,) = read(path)
        known = options(model, graph)
        ends = sorted(data.draw(st.sets(st.integers(1, len(graph.ops) - 1), max_size=3)))
        cuts = []
        for number, (start, end) in enumerate(
            zip([0, *ends], [*ends, len(graph.ops)], strict=True)
        ):
            ops = [op.name for op in graph.ops[start:end]]
            choices = {op: known[op][0] for op in ops if known[op] and number % 2}
            ranks = (2 * number, 2 * number + 1) if number % 2 else (2 * number,)
            cuts.append(StageCut(ranks, frozenset(ops), choices))
        check(path, cuts, data.draw(st.integers(0, 99)), 2 * len(cuts))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_operators_that_a_plan_does_not_name_join_its_stages(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(MODELS["block"], path)
        model, (graph,) = read(path)
        known = options(model, graph)
        names = [op.name for op in graph.ops]
        left_out = data.draw(st.sets(st.sampled_from(names), max_size=len(names) - 2))
        end = data.draw(st.integers(1, len(names) - 1))
        cuts = []
        for ranks, own in (((0, 1), names[:end]), ((2,), names[end:])):
            ops = [name for name in own if name not in left_out]
            choices = {op: known[op][0] for op in ops if known[op] and len(ranks) > 1}
            cuts.append(StageCut(ranks, frozenset(ops), choices))
        check(path, adopted(graph, cuts, known), data.draw(st.integers(0, 99)), 3)


def test_a_cast_behind_a_cut_product_is_cut_with_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(MODELS["block"], path)
    model, (graph,) = read(path)
    known = options(model, graph)
    columns = next(i for i in known["op f0"] if [(a.slot, a.axis) for a in i.inputs] == [(1, 1)])
    ops = frozenset(op.name for op in graph.ops if op.name != "op f1")
    (found,) = adopted(graph, [StageCut((0, 1), ops, {"op f0": columns})], known)
    assert found.choices["op f1"].outputs == columns.outputs


def test_tensor_parallel_feed_forward_has_one_collective_and_halves_the_weights(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(MODELS["block"], path)
    model, (graph,) = read(path)
    known = options(model, graph)

    def along(op: str, size: int, slot: int) -> Index:
        found = (
            index
            for index in known[op]
            for axis in index.inputs
            if axis.slot == slot and index.extent == size
        )
        return next(found)

    choices = {
        "op f0": along("op f0", 12, 1),
        "op f1": along("op f1", 12, 0),
        "op f2": along("op f2", 12, 1),
    }
    cut = StageCut((0, 1), frozenset(op.name for op in graph.ops), choices)
    parts = partition(model, (graph,), [cut], tmp_path / "parts", SETTINGS, tmp_path)
    talks = [part.segment.operation for part in parts if isinstance(part, Talk)]
    assert talks == ["all_reduce"]
    stored: dict[str, int] = {}
    for part in parts:
        if isinstance(part, Part):
            for item in onnx.load(part.onnx_path).graph.initializer:
                stored[item.name] = int(np.prod(item.dims))
    assert stored["W1@cut1"] == stored["W2@cut0"] == 8 * 12 // 2
    assert "W1" not in stored


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(MODELS["block"], path)
    model, (graph,) = read(path)
    names = [op.name for op in graph.ops]
    some = next(iter(options(model, graph)["op f0"]))
    cases = {
        "in no stage": [StageCut((0,), frozenset(names[:-1]))],
        "in two stages": [StageCut((0,), frozenset(names)), StageCut((1,), frozenset(names[:1]))],
        "stands before": [
            StageCut((0,), frozenset(names[3:])), StageCut((1,), frozenset(names[:3]))
        ],
        "cannot be shared by 5 ranks": [
            StageCut((0, 1, 2, 3, 4), frozenset(names), {"op f0": some})
        ],
    }  # fmt: skip
    for words, cuts in cases.items():
        with pytest.raises(ModelError, match=words):
            partition(model, (graph,), cuts, tmp_path / words, SessionSettings(), tmp_path)
