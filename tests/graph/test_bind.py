"""Binding shapes: what is filled in, what is refused, and the normal form that is written."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from planner.errors import ModelError
from planner.graph import store
from planner.graph.bind import bind, complete_shapes, shared_shapes
from planner.graph.build import build_graph
from planner.graph.equality import run_with_onnxruntime
from planner.graph.inspection import inspect
from planner.graph.model import BoundModel, LoadedModel, Port
from planner.graph.normal import Binding, normalise
from planner.spec.shape_words import parse_shape
from tests.graph import nasties
from tests.graph.nasties import model, node, value, weight


def _loaded(*ports: Port, defaults: tuple[Port, ...] = ()) -> LoadedModel:
    return LoadedModel(
        path=Path("model.onnx"),
        sha256="",
        size_bytes=0,
        ir_version=8,
        opsets={"": 17},
        inputs=ports,
        defaults=defaults,
        outputs=(),
        op_counts={},
        parameters=0,
    )


_TEXT = _loaded(
    Port("ids", "int64", ("batch", "time")),
    Port("mask", "int64", ("batch", "time")),
    Port("image", "float32", ("batch", 3, None)),
)


def test_a_symbol_bound_once_is_bound_everywhere() -> None:
    shapes = {"ids": (2, 7), "image": (2, 3, 9)}
    assert complete_shapes(_TEXT, shapes) == {"ids": (2, 7), "mask": (2, 7), "image": (2, 3, 9)}


def test_static_inputs_need_no_shape() -> None:
    loaded = _loaded(Port("x", "float32", (1, 4)), Port("s", "bool", ()))
    assert complete_shapes(loaded, {}) == {"x": (1, 4), "s": ()}


def test_unbound_dimensions_are_named_at_once_with_an_example() -> None:
    with pytest.raises(ModelError) as caught:
        complete_shapes(_TEXT, {})
    assert caught.value.what == (
        "dimensions are not bound: ids (batchxtime), mask (batchxtime), image (batchx3x?)"
    )
    assert caught.value.fix == "for example --shapes ids:1x16 --shapes image:1x3x16"


def test_many_inputs_of_the_same_dimensions_are_asked_for_once() -> None:
    pasts = [Port(f"past_{n}", "float32", ("batch", 4, "past", 8)) for n in range(24)]
    with pytest.raises(ModelError) as caught:
        complete_shapes(_loaded(Port("ids", "int64", ("batch", "time")), *pasts), {"ids": (1, 5)})
    assert caught.value.what.endswith("past_2 (batchx4xpastx8) and 21 more")
    assert caught.value.fix == "for example --shapes past_0:1x4x16x8"


@pytest.mark.parametrize(
    ("ports", "fix"),
    [
        ([("a", ("n", "n")), ("b", ("n", "n"))], "--shapes a:1x1"),
        ([("a", ("n", 4)), ("b", ("m", "n"))], "--shapes a:1x4 --shapes b:1x1"),
        ([("in:0 [x]", ("n", 4))], "--shapes 'in:0 [x]:1x4'"),
        ([("x", ("n", 3, "h", "w"))], "--shapes x:1x3x224x224"),
        ([("x", (None, None, None, 1))], "--shapes x:1x224x224x1"),
        ([("x", ("n", 3, 48, "w"))], "--shapes x:1x3x48x48"),
        ([("past", ("n", 8, "time", 64))], "--shapes past:1x8x16x64"),
        ([("x", (None, None)), ("h", (2, None, 8))], "--shapes x:1x16 --shapes h:2x1x8"),
        ([("x", (1, "time"))], "--shapes x:1x16"),
        ([("x", ("n", "n_samples"))], "--shapes x:1x16000"),
    ],
)
def test_the_example_can_be_pasted(ports: list[tuple[str, tuple[Any, ...]]], fix: str) -> None:
    made = _loaded(*(Port(name, "float32", dims) for name, dims in ports))
    with pytest.raises(ModelError) as caught:
        complete_shapes(made, {})
    assert caught.value.fix == f"for example {fix}"
    words = shlex.split(fix)[1::2]
    assert complete_shapes(made, {n: tuple(s) for n, s in map(parse_shape, words)})


def test_the_example_keeps_what_is_known() -> None:
    with pytest.raises(ModelError, match=r"--shapes image:5x3x16") as caught:
        complete_shapes(_TEXT, {"ids": (5, 8)})
    assert "mask" not in caught.value.text


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"idz": (1, 2)}, r"no input 'idz'\n.*did you mean 'ids'"),
        ({"zzzzzz": (1, 2)}, r"no input 'zzzzzz'\n.*its inputs: 'ids', 'mask', 'image'"),
        ({"ids": (1,)}, r"'ids' has 2 dimensions \(batchxtime\), the given shape 1 has 1"),
        ({"image": (1, 4, 9)}, r"fixed at 3 in dimension 1 .*1x4x9 says 4\n.*image:1x3x9"),
        (
            {"ids": (1, 7), "mask": (1, 8)},
            r"'time' is 7 in input 'ids' and 8 in input 'mask'",
        ),
        ({"ids": (1, -7)}, "negative dimension"),
        ({"ids": (2**40, 2**40)}, "more elements than can be counted"),
    ],
)
def test_contradictions_are_refused(shapes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        complete_shapes(_TEXT, shapes)


def test_an_unknown_rank_takes_any_shape_and_a_sequence_takes_none() -> None:
    loaded = _loaded(Port("x", "float32", None), Port("list", "sequence(float32)", None))
    assert complete_shapes(loaded, {"x": ()}) == {"x": ()}


# --- several sets of shapes ---------------------------------------------------------------------


def test_what_shapes_agree_on_is_fixed_and_the_rest_keeps_its_name() -> None:
    short = {"ids": (2, 7), "image": (2, 3, 9)}
    long = {"ids": (2, 70), "image": (2, 3, 8)}
    assert shared_shapes(_TEXT, [short]) == complete_shapes(_TEXT, short)
    assert shared_shapes(_TEXT, [short, long]) == {
        "ids": (2, "time"),
        "mask": (2, "time"),
        "image": (2, 3, "image.2"),
    }


def test_shapes_of_different_ranks_cannot_share_a_file() -> None:
    loaded = _loaded(Port("x", "float32", None))
    with pytest.raises(ModelError, match="'x' is 4 in one set of shapes and 2x2 in another"):
        shared_shapes(loaded, [{"x": (4,)}, {"x": (2, 2)}])


def test_a_default_is_overridden_by_all_shapes_or_by_none() -> None:
    loaded = _loaded(Port("x", "float32", ("n",)), defaults=(Port("k", "int64", ("m",)),))
    with pytest.raises(ModelError, match="'k' has a default, and only some sets"):
        shared_shapes(loaded, [{"x": (1,)}, {"x": (1,), "k": (2,)}])


def test_one_file_has_the_sizes_of_each_shape(tmp_path: Path) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])],
        inputs=[value("x", ["batch", "time", 4])],
        outputs=[value("y", None)],
        weights=[weight("w", np.ones((4, 2), np.float32))],
    )
    loaded = inspect(nasties.save(made, tmp_path))
    bound = bind(loaded, [{"x": (1, 3, 4)}, {"x": (1, 5, 4)}], tmp_path / "bound.onnx")
    assert bound.inputs == (Port("x", "float32", (1, "time", 4)),)
    assert bound.outputs[0].dims == (1, "time", 2)
    assert build_graph(bound.path).tensors["h"].shape is None
    for time in (3, 5):
        sized = build_graph(bound.path, inputs={"x": (1, time, 4)}).tensors["h"]
        assert (sized.shape, sized.size_bytes) == ((1, time, 2), 8 * time)


# --- the normal form ----------------------------------------------------------------------------


def _normal(
    made: ModelProto, folder: Path, shapes: dict[str, tuple[int, ...]] | None = None, *kept: str
) -> tuple[BoundModel, ModelProto]:
    """The normal form and its protobuf, made in this process."""
    loaded = inspect(nasties.save(made, folder))
    binding = Binding(complete_shapes(loaded, shapes or {}), frozenset(kept))
    bound = normalise(loaded.path, binding, folder / "bound.onnx")
    return bound, onnx.load(bound.path)


def test_binding_goes_through_the_sandbox(tmp_path: Path) -> None:
    loaded = inspect(nasties.save(nasties.shape_chain(), tmp_path))
    bound = bind(loaded, [{"x": (5, 2, 3)}], tmp_path / "bound.onnx")
    assert bound.inputs == (Port("x", "float32", (5, 2, 3)),)
    assert bound.outputs[0].dims is not None
    assert bound.outputs[0].dims[0] == 5
    with pytest.raises(ModelError, match=r"model\.onnx: the model has no input 'z'"):
        bind(loaded, [{"z": (1,)}], tmp_path / "bound.onnx")


def test_shapes_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    made = model(
        [node("Add", ["a", "b"], ["y"])],
        inputs=[value("a", ["n"]), value("b", ["m"])],
        outputs=[value("y", None)],
    )
    with pytest.raises(ModelError, match="y"):
        _normal(made, tmp_path, {"a": (3,), "b": (4,)})
    assert not (tmp_path / "bound.onnx").exists()


def test_functions_are_inlined_and_names_made_unique(tmp_path: Path) -> None:
    made = nasties.with_functions({"F": ["G", "G"], "G": []}, call="F")
    bound, found = _normal(made, tmp_path)
    assert [one.op_type for one in found.graph.node] == ["Neg", "Neg"]
    assert len({one.name for one in found.graph.node}) == 2
    assert not found.functions
    feeds = {"x": np.ones((1, 4), np.float32)}
    np.testing.assert_array_equal(run_with_onnxruntime(bound.path, feeds, 1)[0]["y"], feeds["x"])


def test_operators_are_sorted(tmp_path: Path) -> None:
    _, found = _normal(nasties.unsorted(), tmp_path)
    assert [one.op_type for one in found.graph.node] == ["Neg", "Relu"]


def test_constants_become_initialisers(tmp_path: Path) -> None:
    nodes = [
        node("Constant", [], ["a"], value=weight("", np.ones((1, 4), np.float32))),
        node("Constant", [], ["b"], value_float=2.0),
        node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        node("Sum", ["x", "a", "b", "c"], ["y"]),
    ]
    bound, found = _normal(model(nodes), tmp_path)
    assert [one.op_type for one in found.graph.node] == ["Sum"]
    values = run_with_onnxruntime(bound.path, {"x": np.zeros((1, 4), np.float32)}, 1)[0]["y"]
    np.testing.assert_array_equal(values, [[4.0, 5.0, 6.0, 7.0]])


def test_sparse_weights_become_dense(tmp_path: Path) -> None:
    made = nasties.matmul(weight("W", np.zeros((4, 4), np.float32)))
    del made.graph.initializer[:]
    sparse = helper.make_sparse_tensor(
        weight("W", np.array([5.0, 7.0], np.float32)), weight("i", np.array([0, 5])), [4, 4]
    )
    made.graph.sparse_initializer.append(sparse)
    bound, found = _normal(made, tmp_path)
    assert not found.graph.sparse_initializer
    values = run_with_onnxruntime(bound.path, {"x": np.ones((1, 4), np.float32)}, 1)[0]["y"]
    np.testing.assert_array_equal(values, [[5.0, 7.0, 0.0, 0.0]])


def test_sparse_constants_become_dense_in_bodies_as_well(tmp_path: Path) -> None:
    """ONNX Runtime hands them out as objects of its own, which no NumPy code can read."""
    sparse = helper.make_sparse_tensor(
        weight("", np.array([5.0, 7.0], np.float32)), weight("", np.array([0, 5])), [4, 4]
    )
    branch = helper.make_graph(
        [node("Constant", [], ["k"], sparse_value=sparse), node("MatMul", ["x", "k"], ["z"])],
        "branch", [], [value("z")],
    )  # fmt: skip
    nodes = [
        node("Constant", [], ["c"], sparse_value=sparse),
        node("MatMul", ["x", "c"], ["t"]),
        node("ReduceSum", ["t"], ["s"], keepdims=0),
        node("Cast", ["s"], ["b"], to=TensorProto.BOOL),
        node("If", ["b"], ["u"], then_branch=branch, else_branch=branch),
        node("Add", ["t", "u"], ["y"]),
    ]
    bound, found = _normal(model(nodes), tmp_path)
    assert "sparse_value" not in str(found)
    values = run_with_onnxruntime(bound.path, {"x": np.ones((1, 4), np.float32)}, 1)[0]["y"]
    np.testing.assert_array_equal(values, [[10.0, 14.0, 0.0, 0.0]])


def test_a_default_input_becomes_a_constant_unless_bound(tmp_path: Path) -> None:
    made = model(
        [node("MatMul", ["x", "W"], ["y"])],
        inputs=[value("x"), value("W", [4, 4])],
        weights=[weight("W", np.eye(4, dtype=np.float32))],
        ir_version=3,
    )
    bound, found = _normal(made, tmp_path)
    assert [port.name for port in bound.inputs] == ["x"]
    assert found.ir_version == 4
    bound, found = _normal(made, tmp_path, None, "W")
    assert [port.name for port in bound.inputs] == ["x", "W"]
    assert [tensor.name for tensor in found.graph.initializer] == ["W"]


def test_equal_weights_are_stored_once_also_for_bodies(tmp_path: Path) -> None:
    same = np.arange(1024, dtype=np.float32).reshape(1, 1024)
    wide = value("p", [1, 1024])
    then = nasties.graph([node("Add", ["x", "W2"], ["p"])], outputs=[wide], name="then")
    other = nasties.graph([node("Sub", ["x", "W1"], ["p"])], outputs=[wide], name="else")
    for body in (then, other):
        del body.input[:]
    made = model(
        [node("If", ["flag"], ["y"], then_branch=then, else_branch=other)],
        inputs=[value("x", [1, 1024]), value("flag", [], TensorProto.BOOL)],
        outputs=[value("y", [1, 1024])],
        weights=[weight("W1", same), weight("W2", same)],
    )
    bound, found = _normal(made, tmp_path)
    assert [tensor.name for tensor in found.graph.initializer] == ["W1"]
    feeds = {"x": same, "flag": np.array(True)}
    np.testing.assert_array_equal(run_with_onnxruntime(bound.path, feeds, 1)[0]["y"], 2 * same)


def test_large_weights_stay_outside_the_model_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "INLINE_LIMIT_BYTES", 100)
    (tmp_path / "w.bin").write_bytes(b"junk" * 64 + np.eye(32, dtype=np.float32).tobytes())
    made = nasties.external("w.bin", offset=256, length=4096, dims=(32, 32))
    made.graph.input[0].CopyFrom(value("x", ["n", 32]))
    made.graph.output[0].CopyFrom(value("y", ["n", 32]))
    bound, _ = _normal(made, tmp_path, {"x": (1, 32)})
    assert store.data_path(bound.path).stat().st_size == 4096
    assert bound.size_bytes == bound.path.stat().st_size + 4096
    feeds = {"x": np.arange(32, dtype=np.float32).reshape(1, 32)}
    np.testing.assert_array_equal(run_with_onnxruntime(bound.path, feeds, 1)[0]["y"], feeds["x"])


def test_small_external_data_moves_inside(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.eye(4, dtype=np.float32).tobytes())
    bound, found = _normal(nasties.external("w.bin"), tmp_path)
    assert not store.data_path(bound.path).exists()
    assert len(found.graph.initializer[0].raw_data) == 64


def test_hostile_operator_names_become_short_and_printable(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "a\nb", "q" * 20_000, "q" * 20_000, ""]
    chain = ["x", "t1", "t2", "t3", "t4", "y"]
    nodes = [node("Relu", [chain[i]], [chain[i + 1]], name=name) for i, name in enumerate(names)]
    _, found = _normal(model(nodes), tmp_path)
    cleaned = [one.name for one in found.graph.node]
    assert cleaned[:2] == ["_/_/etc/passwd", "a_b"]
    assert cleaned[4] == "Relu"
    assert len(set(cleaned)) == 5
    assert max(map(len, cleaned)) < 130
