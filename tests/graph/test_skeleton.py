"""Models whose weights are absent: read as if they were there, refused where they are hostile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto
from onnx.reference import ReferenceEvaluator

from planner.errors import ModelError
from planner.graph.load import load
from planner.graph.skeleton import load_skeleton, read_skeleton
from tests.graph import nasties
from tests.graph.nasties import model, node, value, weight


def absent(name: str, dims: list[int], dtype: int = TensorProto.FLOAT, **more: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=dtype, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, entry in {"location": "weights.bin", **more}.items():
        tensor.external_data.add(key=key, value=entry)
    return tensor


def reshaping() -> ModelProto:
    """x [n, 4] @ W, reshaped by numbers computed from its own shape."""
    return model(
        [
            node("MatMul", ["x", "W"], ["h"]),
            node("Shape", ["h"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Unsqueeze", ["n", "axes"], ["n1"]),
            node("Concat", ["n1", "two", "minus"], ["target"], axis=0),
            node("Reshape", ["h", "target"], ["r"]),
            node("Identity", ["r"], ["same"]),
            node("Relu", ["same"], ["a"]),
            node("Relu", ["r"], ["b"]),
            node("Add", ["a", "b"], ["y"]),
            node("Exp", ["y"], ["nobody"]),
        ],
        inputs=[value("x", ["batch", 4])],
        outputs=[value("y", None)],
        weights=[
            absent("W", [4, 6]),
            weight("zero", np.array(0)),
            weight("axes", np.array([0])),
            weight("two", np.array([2])),
            weight("minus", np.array([-1])),
        ],
    )


def test_shapes_come_through_the_arithmetic_of_shapes(tmp_path: Path) -> None:
    path = nasties.save(reshaping(), tmp_path)
    found = load_skeleton(path, {"small": {"x": (2, 4)}, "large": {"x": (50, 4)}})
    assert [op.op_type for op in found.graph.ops] == ["MatMul", "Reshape", "Relu", "Add"]
    assert found.graphs["small"].tensors["y"].shape == (2, 2, 3)
    assert found.graphs["large"].tensors["y"].shape == (50, 2, 3)
    assert found.graph.ops[-1].inputs == ("a", "a")
    assert found.graph.weights_size_bytes == 4 * 6 * 4 + 3 * 8
    (stored,) = (entry for entry in found.weights if entry.name == "W")
    assert (stored.dtype, stored.shape, stored.readers) == ("float32", (4, 6), ("MatMul",))
    assert "4 shape arithmetic" in " ".join(found.notes)


def test_what_is_left_computes_the_same(tmp_path: Path) -> None:
    """The operators that stay, with settled numbers as constants, against the whole model."""
    onnx_model = reshaping()
    values = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    onnx_model.graph.initializer[0].CopyFrom(weight("W", values))
    path = nasties.save(onnx_model, tmp_path)
    found = read_skeleton(path, {"": {"x": (3, 4)}})
    every = [name for item in onnx_model.graph.node for name in item.output]
    onnx_model.graph.output.extend(value(name, None) for name in every if name != "y")
    x = {"x": np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)}
    names = [output.name for output in onnx_model.graph.output]
    original = dict(zip(names, ReferenceEvaluator(onnx_model).run(None, x), strict=True))
    original["W"] = values
    constants = [t.name for t in found.graph.tensors.values() if t.is_constant]
    nodes = [node(op.op_type, op.inputs, op.outputs) for op in found.graph.ops]
    rest = model(
        nodes,
        inputs=[value("x", [3, 4])],
        outputs=[value("y", None)],
        weights=[weight(name, original[name]) for name in constants],
    )
    (made,) = ReferenceEvaluator(rest).run(None, x)
    np.testing.assert_array_equal(made, original["y"])


def test_a_shared_weight_is_not_copied_to_be_turned(tmp_path: Path) -> None:
    """Alone it is turned at build time; read by others as well it would be stored twice."""
    nodes = [
        node("Transpose", ["E"], ["turned"], perm=[1, 0]),
        node("MatMul", ["x", "turned"], ["y"]),
    ]
    alone = model(nodes, weights=[absent("E", [9, 4])])
    alone.graph.output[0].CopyFrom(value("y", [1, 9]))
    found = read_skeleton(nasties.save(alone, tmp_path), {"": {}})
    assert [op.op_type for op in found.graph.ops] == ["MatMul"]
    assert found.graph.weights_size_bytes == 144
    both = ModelProto.FromString(alone.SerializeToString())
    both.graph.node.append(node("Gather", ["E", "i"], ["z"]))
    both.graph.input.append(value("i", [2], TensorProto.INT64))
    both.graph.output.append(value("z", [2, 4]))
    found = read_skeleton(nasties.save(both, tmp_path), {"": {}})
    assert [op.op_type for op in found.graph.ops] == ["Transpose", "MatMul", "Gather"]
    (shared,) = found.weights
    assert shared.readers == ("Transpose", "Gather")


def test_two_names_of_the_same_bytes_are_one_weight(tmp_path: Path) -> None:
    weights = [absent(name, [4, 4], offset="64", length="64") for name in "AB"]
    nodes = [node("MatMul", ["x", "A"], ["h"]), node("MatMul", ["h", "B"], ["y"])]
    found = read_skeleton(nasties.save(model(nodes, weights=weights), tmp_path), {"": {}})
    assert [(entry.name, len(entry.readers)) for entry in found.weights] == [("A", 2)]


def test_bodies_are_inferred_with_what_they_capture(tmp_path: Path) -> None:
    found = read_skeleton(nasties.save(nasties.conditional(), tmp_path), {"": {}})
    (branch,) = (op for op in found.graph.ops if op.op_type == "If")
    assert branch.captured
    assert found.graph.tensors[branch.outputs[0]].shape is not None


def test_what_depends_on_data_stays_unknown(tmp_path: Path) -> None:
    nodes = [node("NonZero", ["x"], ["i"]), node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)]
    made = model(nodes, outputs=[value("y", None)])
    found = read_skeleton(nasties.save(made, tmp_path), {"": {}})
    assert found.graph.tensors["y"].dtype == "float32"
    assert found.graph.tensors["y"].shape is None


def test_an_operator_nobody_knows_is_told(tmp_path: Path) -> None:
    nodes = [node("Magic", ["x"], ["h"], domain="acme"), node("Relu", ["h"], ["y"])]
    made = model(nodes, imports=[onnx.helper.make_opsetid("acme", 1)])
    found = read_skeleton(nasties.save(made, tmp_path), {"": {}})
    assert found.graph.tensors["y"].shape is None
    assert "acme::Magic" in " ".join(found.notes)


def test_absent_data_is_still_refused_where_weights_are_needed(tmp_path: Path) -> None:
    path = nasties.save(nasties.external("absent.bin"), tmp_path)
    assert load_skeleton(path, {"": {}}).loaded.parameters == 16
    with pytest.raises(ModelError, match=r"absent\.bin.*missing"):
        load(path)


HUGE = 2**40
HOSTILE = {
    "is outside": (nasties.external("../secret"), "outside the model's folder"),
    "is absolute": (nasties.external("/etc/passwd"), "outside the model's folder"),
    "has no file": (nasties.external(""), "without a file name"),
    "has a negative offset": (nasties.external("w.bin", offset=-1), "no size"),
    "has another length": (nasties.external("w.bin", length=60), "should hold 64 bytes"),
    "cannot be counted": (
        nasties.external("w.bin", length=None, dims=(HUGE, HUGE)),
        "more than 64-bit arithmetic",
    ),
    "has a negative dimension": (nasties.external("w.bin", dims=(-4, 4)), "negative dimension"),
    "does not fit": (nasties.external("w.bin", length=None, dims=(5, 4)), "Incompatible dim"),
    "goes round": (nasties.cycle(), "cycle"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_model_is_refused(name: str, tmp_path: Path) -> None:
    made, what = HOSTILE[name]
    with pytest.raises(ModelError, match=what):
        read_skeleton(nasties.save(made, tmp_path), {"": {}})


def test_a_product_too_large_to_count_is_refused(tmp_path: Path) -> None:
    """Each weight can be counted, what the operators make of them cannot."""
    nodes = [node("MatMul", ["x", "A"], ["h"]), node("Expand", ["h", "s"], ["y"])]
    weights = [absent("A", [4, 2**40]), weight("s", np.array([2**30, 2**40]))]
    made = model(nodes, weights=weights, outputs=[value("y", None)])
    with pytest.raises(ModelError, match="more than 64-bit arithmetic"):
        read_skeleton(nasties.save(made, tmp_path), {"": {}})


def test_unbound_dimensions_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not bound: x \(batchx4\)"):
        load_skeleton(nasties.save(reshaping(), tmp_path), {"": {}})
