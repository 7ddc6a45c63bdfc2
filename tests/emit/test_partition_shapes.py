"""One set of parts for every shape of a workload: any choice of indices gives the same answers."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from planner.emit.partition import StageCut, cut_of, options, partition, read, stage_cuts
from planner.errors import VerificationError
from planner.ops.sharding import Kind
from planner.spec.execution import Cut, StageExecution
from tests.emit.test_partition import Node, block, execute, model_of, weight, whole
from tests.runtime.build import SETTINGS, tensor

SHAPES = {
    "both vary": ((2, 6), (3, 4)),
    "time varies": ((2, 6), (2, 9), (2, 4)),
    "decoding": ((2, 7), (2, 1)),
    "one": ((2, 6),),
}
UNSEEN = {"both vary": (5, 7), "time varies": (2, 5), "decoding": (2, 3), "one": (2, 6)}
"""A shape that nobody planned for: what is cut are sizes that no shape changes."""


def varied() -> onnx.ModelProto:
    """A transformer block of any batch and length; heads are split and merged by what is there."""
    model = block()
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        dims[0].dim_param = "batch"
        if len(dims) != 2 or value.name == "ids":
            dims[1].dim_param = "time"
    stored = {item.name: item for item in model.graph.initializer}
    stored["merged"].CopyFrom(onnx.numpy_helper.from_array(np.array([0, 0, 8]), "merged"))
    stored["heads"].CopyFrom(onnx.numpy_helper.from_array(np.array([0, 0, 4, 2]), "heads"))
    return model


def computed() -> onnx.ModelProto:
    """Shapes worked out by operators, as exporters do: rows are split into heads and repeated."""
    nodes: list[Node] = [
        ("MatMul", ["x", "W"], ["a"], {}),
        ("Shape", ["a"], ["s"], {}),
        ("Gather", ["s", "zero"], ["n"], {}),
        ("Concat", ["n", "four", "two"], ["split"], {"axis": 0}),
        ("Reshape", ["a", "split"], ["h"], {}),
        ("Concat", ["n", "four", "two"], ["wide"], {"axis": 0}),
        ("Expand", ["h", "wide"], ["e"], {}),
        ("Reshape", ["e", "merged"], ["m"], {}),
        ("MatMul", ["m", "V"], ["y"], {}),
    ]
    weights = {
        "W": weight(8, 8), "V": weight(8, 6), "zero": np.array([0]), "four": np.array([4]),
        "two": np.array([2]), "merged": np.array([-1, 8]),
    }  # fmt: skip
    return model_of(
        nodes,
        [tensor("x", TensorProto.FLOAT, ["rows", 8])],
        [tensor("y", TensorProto.FLOAT, ["rows", 6])],
        weights,
    )


def _answers_alike(
    path: Path, name: str, dims: list[tuple[int, ...]], planned: int, data: st.DataObject
) -> None:
    model, graphs = read(path, [{name: shape} for shape in dims[:planned]])
    choices = {}
    for op, found in options(model, graphs).items():
        picked = data.draw(st.sampled_from([None, *found]), label=op)
        if picked is not None:
            choices[op] = picked
    cut = StageCut((0, 1), frozenset(op.name for op in graphs[0].ops), choices)
    parts = partition(model, graphs, [cut], path.parent / "parts", SETTINGS, path.parent)
    rng = np.random.default_rng(0)
    for shape in dims:
        feeds = {
            name: rng.integers(-10, 10, shape)
            if name == "ids"
            else rng.standard_normal(shape).astype(np.float32)
        }
        answers = execute(parts, feeds, 2)
        for output, value in whole(path, feeds).items():
            np.testing.assert_allclose(answers[output], value, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("case", sorted(SHAPES))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_block_of_any_shape(case: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(varied(), path)
        planned = SHAPES[case]
        _answers_alike(path, "ids", [*planned, UNSEEN[case]], len(planned), data)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_shapes_that_operators_work_out(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(computed(), path)
        _answers_alike(path, "x", [(4, 8), (6, 8), (9, 8)], 2, data)


def test_weights_are_cut_and_sizes_that_vary_are_not(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(varied(), path)
    model, graphs = read(path, [{"ids": (2, 6)}, {"ids": (3, 4)}])
    found = options(model, graphs)
    extents = {index.extent for own in found.values() for index in own}
    assert not extents & {3, 6}
    assert {i.kind for i in found["op f0"]} == {Kind.PARALLEL, Kind.SUM}
    assert [i.extent for i in found["op q2"]] == [4]
    assert [i.extent for i in found["op o2"]] == [4]


def test_what_one_shape_only_could_share_stays_whole_and_is_told(tmp_path: Path) -> None:
    """A plan may cut positions for a long prompt; decoding has one, and one file serves both."""
    path = tmp_path / "model.onnx"
    onnx.save(varied(), path)
    model, (long,) = read(path, [{"ids": (2, 6)}])
    under_long = options(model, (long,))
    positions = next(i for i in under_long["op f1"] if i.extent == 6)
    hidden = next(
        i for i in under_long["op f0"] if [(a.slot, a.axis) for a in i.inputs] == [(1, 1)]
    )
    stage = StageExecution(
        ranks=(0, 1), ops=tuple(op.name for op in long.ops),
        cuts={"op f1": cut_of(positions), "op f0": cut_of(hidden)},
    )  # fmt: skip
    model, graphs = read(path, [{"ids": (2, 6)}, {"ids": (2, 1)}])
    (found,) = stage_cuts(model, graphs, [stage])
    assert found.kept_whole == ("op f1",)
    assert set(found.choices) == {"op f0"}
    wrong = stage.model_copy(update={"cuts": {"op f1": Cut(kind="sum", operands=((0, 7),))}})
    with pytest.raises(VerificationError, match="cannot be cut"):
        stage_cuts(model, graphs, [wrong])
