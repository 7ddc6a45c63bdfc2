"""Every index of every rule against numbers: cut operands, run each rank, combine, compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from planner.ops.sharding import Call, Index, Kind, indices

Array = np.ndarray[Any, Any]
OPSET = 23
RANKS = 2


@dataclass(frozen=True)
class Case:
    """One operator with its operands; integers are given by value."""

    op_type: str
    inputs: tuple[tuple[int, ...] | Array | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    sums: int = 0
    """Contracted indices that it must have."""
    parallels: int = 1
    """Parallel indices that it must have."""
    reshapes: bool = False
    """Its second operand is a shape that each rank must have its own of."""


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def ones(count: int) -> Array:
    """Scales that differ."""
    return np.linspace(0.05, 0.2, count, dtype=np.float32)


def zeros(count: int) -> Array:
    """Zero points that differ."""
    return np.arange(count, dtype=np.uint8)


def bytes_of(*shape: int) -> Array:
    return np.random.default_rng(5).integers(0, 255, shape).astype(np.uint8)


CASES = (
    Case("Add", ((4, 6), (6,)), parallels=2),
    Case("Where", (np.array([[True], [False]]), (2, 6), (2, 6)), parallels=2),
    Case("Gelu", ((4, 6),), parallels=2),
    Case(
        "DequantizeLinear",
        (np.array([[1, -2], [3, 4]], np.int8), np.array(0.5, np.float32)),
        parallels=2,
    ),
    Case("MatMul", ((4, 6), (6, 8)), sums=1, parallels=2),
    Case("MatMul", ((2, 4, 6), (6, 8)), sums=1, parallels=3),
    Case("MatMul", ((2, 4, 6, 8), (2, 1, 8, 4)), sums=1, parallels=4),
    Case("MatMul", ((6,), (6, 8)), sums=1),
    Case("MatMul", ((4, 6), (6,)), sums=1),
    Case("Gemm", ((4, 6), (8, 6), (8,)), {"transB": 1, "alpha": 0.5, "beta": 2.0}, 1, 1, 2),
    Case("Gemm", ((6, 4), (6, 8), (4, 1)), {"transA": 1}, sums=1, parallels=2),
    Case("Einsum", ((2, 4, 6), (2, 6, 8)), {"equation": "bij,bjk->bik"}, sums=1, parallels=3),
    Case("Einsum", ((4, 6), (4, 6)), {"equation": "ij,ij->"}, sums=2, parallels=0),
    Case("Transpose", ((2, 4, 6),), {"perm": [2, 0, 1]}, parallels=3),
    Case("Reshape", ((2, 4, 12), ints(2, 4, 4, 3)), parallels=3, reshapes=True),
    Case("Reshape", ((2, 4, 4, 3), ints(2, 4, 12)), parallels=3, reshapes=True),
    Case("Reshape", ((2, 4, 6), ints(8, 6)), parallels=2, reshapes=True),
    Case("Reshape", ((1, 8, 6), ints(8, 6)), parallels=2, reshapes=True),
    Case("Reshape", ((4, 6), ints(6, 4)), parallels=1, reshapes=True),
    Case("Squeeze", ((4, 1, 6), ints(1)), parallels=2),
    Case("Unsqueeze", ((4, 6), ints(1)), parallels=2),
    Case("Concat", ((4, 6), (4, 2)), {"axis": 1}),
    Case("Split", ((4, 6),), {"axis": 1, "num_outputs": 2}, outputs=2),
    Case("Slice", ((4, 6), ints(1), ints(3), ints(1))),
    Case("Slice", ((4, 6), ints(-1), ints(-7), ints(1), ints(-1)), parallels=0),
    Case("Expand", ((4, 1), ints(4, 6)), parallels=1, reshapes=True),
    Case("Pad", ((4, 6), ints(0, 1, 0, 1))),
    Case("Gather", ((8, 6), ints(3, 0, 7, 5)), parallels=2, sums=1),
    Case("Gather", ((4, 6), np.array([[1, 5], [0, 2]])), {"axis": 1}, parallels=3, sums=1),
    Case("Softmax", ((4, 6),), {"axis": -1}),
    Case("CumSum", ((4, 6), np.array(1)), parallels=1),
    Case("TopK", ((4, 6), ints(2)), {"axis": 1}, outputs=2),
    Case("ArgMax", ((4, 6),), {"axis": 1, "keepdims": 0}),
    Case("ReduceSum", ((4, 6), ints(1)), {"keepdims": 0}, sums=1),
    Case("ReduceMean", ((4, 6), ints(-1))),
    Case("ReduceMax", ((2, 4, 6), ints(0, 2)), {"keepdims": 0}),
    Case("LayerNormalization", ((4, 6), (6,), (6,)), {"axis": -1}),
    Case("RMSNormalization", ((4, 6), (6,)), {"axis": -1}),
    Case("BatchNormalization", ((2, 4, 6), (4,), (4,), (4,), np.full(4, 2.0)), parallels=3),
    Case("InstanceNormalization", ((2, 4, 6), (4,), (4,)), parallels=2),
    Case("GroupNormalization", ((2, 4, 6), (4,), (4,)), {"num_groups": 2}, parallels=2),
    Case("Conv", ((2, 4, 6, 6), (8, 4, 3, 3), (8,)), sums=1, parallels=2),
    Case("Conv", ((2, 4, 6, 6), (8, 1, 3, 3), (8,)), {"group": 4}, parallels=2),
    Case("ConvTranspose", ((2, 4, 6, 6), (4, 8, 3, 3), (8,)), sums=1, parallels=2),
    Case("MaxPool", ((2, 4, 6, 6),), {"kernel_shape": [2, 2]}, parallels=2),
    Case("GlobalAveragePool", ((2, 4, 6, 6),), parallels=2),
    Case("DepthToSpace", ((2, 8, 4, 4),), {"blocksize": 2}),
    Case("Trilu", ((4, 6, 6),)),
    Case("QuantizeLinear", ((4, 6), ones(6), zeros(6)), {"axis": 1}, parallels=2),
    Case("QuantizeLinear", ((4, 6), np.array(0.1, np.float32), np.array(7, np.uint8)), parallels=2),
    Case("DequantizeLinear", (bytes_of(4, 6), ones(4)), {"axis": 0}, parallels=2),
    Case("DequantizeLinear", (bytes_of(4, 6), ones(1)), {"axis": 0}, parallels=2),
    Case("DynamicQuantizeLinear", ((4, 6),), outputs=3, parallels=0),
    Case(
        "MatMulInteger",
        (bytes_of(4, 6), bytes_of(6, 8), np.array(3, np.uint8)),
        sums=1,
        parallels=2,
    ),
    Case(
        "MatMulInteger",
        (bytes_of(4, 6), bytes_of(6, 8), np.array(3, np.uint8), bytes_of(8)),
        sums=1,
        parallels=2,
    ),
    Case("MatMulInteger", (bytes_of(2, 4, 6), bytes_of(6, 8)), sums=1, parallels=3),
    Case(
        "ConvInteger",
        (bytes_of(2, 4, 6, 6), bytes_of(8, 4, 3, 3), np.array(3, np.uint8)),
        sums=1,
        parallels=2,
    ),
    Case("ConvInteger", (bytes_of(2, 4, 6, 6), bytes_of(8, 2, 3, 3)), {"group": 2}, parallels=2),
    Case("OneHot", (ints(1, 0, 2, 1), np.array(3), np.array([0.0, 1.0])), {"axis": -1}),
    Case("Attention", ((2, 4, 6, 8), (2, 2, 6, 8), (2, 2, 6, 8)), parallels=2),
    Case("LSTM", ((5, 4, 6), (1, 12, 6), (1, 12, 3), (1, 24)), {"hidden_size": 3}, outputs=3),
)


def operands(case: Case, seed: int) -> list[Array | None]:
    rng = np.random.default_rng(seed)
    return [
        value
        if value is None or isinstance(value, np.ndarray)
        else rng.standard_normal(value).astype(np.float32)
        for value in case.inputs
    ]


def run(case: Case, values: list[Array | None]) -> list[Array]:
    feeds = {f"x{n}": value for n, value in enumerate(values) if value is not None}
    names = [f"x{n}" if value is not None else "" for n, value in enumerate(values)]
    made = [f"y{n}" for n in range(case.outputs)]
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape)
        )
        for name, value in feeds.items()
    ]
    outs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in made]
    node = helper.make_node(case.op_type, names, made, **case.attributes)
    graph = helper.make_graph([node], "one", infos, outs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    return [np.asarray(one) for one in ReferenceEvaluator(model).run(None, feeds)]


def call_of(case: Case, values: list[Array | None], results: list[Array]) -> Call:
    return Call(
        case.op_type,
        tuple(None if value is None else value.shape for value in values),
        tuple(result.shape for result in results),
        case.attributes,
        tuple(
            tuple(value.reshape(-1).tolist())
            if value is not None and value.dtype == np.int64
            else None
            for value in values
        ),
    )


def part(value: Array, axis: int, block: int, extent: int, rank: int) -> Array:
    """A rank's range of an index: whole steps, the first ranks take more."""
    share = -(-extent // RANKS) * block
    return np.take(value, range(rank * share, min((rank + 1) * share, value.shape[axis])), axis)


def rank_operands(
    case: Case, values: list[Array | None], index: Index, results: list[Array], rank: int
) -> list[Array | None]:
    own = list(values)
    for axis in index.inputs:
        value = own[axis.slot]
        assert value is not None
        own[axis.slot] = part(value, axis.axis, axis.block, index.extent, rank)
    for slot in index.once if rank else ():
        own[slot] = np.zeros_like(own[slot])
    if case.reshapes:
        made = results[0]
        for axis in index.outputs:
            made = part(made, axis.axis, axis.block, index.extent, rank)
        own[1] = np.array(made.shape, np.int64)
    if "num_groups" in case.attributes or "group" in case.attributes:
        own = list(own)
    return own


def rank_case(case: Case, index: Index, rank: int) -> Case:
    """Attributes that count groups count a rank's own."""
    is_grouped = any(axis.block > 1 or axis.axis == 1 for axis in index.inputs if axis.slot == 0)
    share = -(-index.extent // RANKS)
    own = min(share, index.extent - rank * share)
    attributes = dict(case.attributes)
    for key in ("group", "num_groups"):
        if key in attributes and is_grouped and index.extent == attributes[key]:
            attributes[key] = own
    return Case(case.op_type, case.inputs, attributes, case.outputs)


def lookup(case: Case, values: list[Array | None], index: Index, rank: int) -> Array:
    """What a rank that holds part of a table finds: zero for rows that another holds."""
    table, rows = values[0], values[1]
    assert table is not None
    assert rows is not None
    axis = index.inputs[0].axis
    share = -(-index.extent // RANKS)
    mine = part(table, axis, 1, index.extent, rank)
    local = rows - rank * share
    inside = (local >= 0) & (local < mine.shape[axis])
    found = np.take(mine, np.where(inside, local, 0), axis=axis)
    shape = [1] * axis + list(rows.shape) + [1] * (table.ndim - axis - 1)
    return np.where(inside.reshape(shape), found, 0.0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op_type}-{case.inputs[0] is None}")
def test_ranks_together_compute_the_whole(case: Case) -> None:
    values = operands(case, 0)
    results = run(case, values)
    found = indices(call_of(case, values, results))
    assert found is not None
    kinds = [index.kind for index in found]
    assert kinds.count(Kind.PARALLEL) >= case.parallels
    assert len(kinds) - kinds.count(Kind.PARALLEL) >= case.sums
    if case.parallels == 0:
        assert Kind.PARALLEL not in kinds
    for index in found:
        check(case, values, results, index)


def check(case: Case, values: list[Array | None], results: list[Array], index: Index) -> None:
    if index.kind is Kind.LOOKUP:
        total = sum(lookup(case, values, index, rank) for rank in range(RANKS))
        np.testing.assert_allclose(total, results[0], rtol=1e-5, atol=1e-5)
        return
    parts = [
        run(rank_case(case, index, rank), rank_operands(case, values, index, results, rank))
        for rank in range(RANKS)
    ]
    if index.kind is Kind.SUM:
        total = sum(part_results[0] for part_results in parts)
        np.testing.assert_allclose(total, results[0], rtol=1e-4, atol=1e-4)
        return
    for axis in index.outputs:
        joined = np.concatenate([own[axis.slot] for own in parts], axis.axis)
        np.testing.assert_allclose(joined, results[axis.slot], rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_any_reshape_shards_where_it_says(dims: list[int], random: Any) -> None:
    """Merged and split at random: whatever the rule offers must be true."""
    source = tuple(2 * dim for dim in dims)
    flat = [2] * len(dims) + [dim for dim in dims if dim > 1]
    random.shuffle(flat)
    target: list[int] = []
    for factor in flat:
        if target and random.random() < 0.5:
            target[-1] *= factor
        else:
            target.append(factor)
    case = Case("Reshape", (source, ints(*target)), reshapes=True)
    values = operands(case, 1)
    results = run(case, values)
    for index in indices(call_of(case, values, results)) or ():
        check(case, values, results, index)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=0, max_size=2),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 5),
    st.booleans(),
)
def test_any_product_shards_where_it_says(
    batch: list[int], rows: int, inner: int, columns: int, shares: bool
) -> None:
    right = (inner, columns) if shares else (*batch, inner, columns)
    case = Case("MatMul", ((*batch, rows, inner), right))
    values = operands(case, 2)
    results = run(case, values)
    for index in indices(call_of(case, values, results)) or ():
        check(case, values, results, index)


def test_operators_without_a_rule_are_told_apart_from_those_that_stay_whole() -> None:
    call = Call("NoSuchOperator", ((4, 6),), ((4, 6),), {})
    assert indices(call) is None
    reversed_ = Call("Slice", ((4,), (1,), (1,), (1,), (1,)), ((4,),), {}, (None,) * 4 + ((-1,),))
    assert indices(reversed_) == ()
