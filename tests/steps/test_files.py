"""Which file plain ONNX Runtime runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from planner.errors import DataError, ModelError
from planner.graph.load import load
from planner.progress import Silent
from planner.runtime.ort import make_session, tensor_specs
from planner.spec.session import SessionSettings
from planner.steps.files import Files, bound_files
from planner.steps.workspace import workspace
from tests.graph.nasties import model, node, relu, save, value, weight


def _files(made: ModelProto, folder: Path) -> Files:
    with workspace(Silent()) as work:
        return bound_files(load(save(made, folder)), [{}], work, [None])


def test_the_user_s_file_as_it_is(tmp_path: Path) -> None:
    assert _files(relu(), tmp_path).plain_path == tmp_path / "model.onnx"


def test_the_normal_form_where_onnxruntime_refuses_that(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"], name="n"), node("Neg", ["a"], ["y"], name="n")]
    files = _files(model(nodes), tmp_path)
    assert files.plain_path == files.bound_path
    assert any("only in normal form" in note for note in files.notes)


def test_the_normal_form_where_the_file_hides_how_many_dimensions_there_are(tmp_path: Path) -> None:
    made = model([node("Relu", ["x"], ["y"])], [value("x", None)], [value("y", None)])
    loaded = load(save(made, tmp_path))
    with workspace(Silent()) as work:
        files = bound_files(loaded, [{"x": (3, 8)}], work, [None])
    assert files.plain_path == files.bound_path
    (found,) = tensor_specs(make_session(files.plain_path, SessionSettings()))[0]
    assert found.shape == (3, 8)


def test_four_bit_values_at_the_border_are_named(tmp_path: Path) -> None:
    cast = node("Cast", ["x"], ["y"], to=TensorProto.INT4)
    made = model([cast], outputs=[value("y", [1, 4], TensorProto.INT4)], opset=21)
    with pytest.raises(ModelError, match="'y' is of type int4") as caught:
        _files(made, tmp_path)
    assert "Cast" in (caught.value.fix or "")


@pytest.mark.parametrize("is_open", [False, True])
def test_sizes_are_suspected_where_they_were_chosen(is_open: bool, tmp_path: Path) -> None:
    nodes = [node("Pad", ["x", "pads"], ["y"], mode="reflect")]
    pads = [weight("pads", np.array([0, 0, 0, 8], np.int64))]  # more than there is to reflect
    ends = [value("x", ["n" if is_open else 1, 4])], [value("y", None)]
    loaded = load(save(model(nodes, *ends, pads), tmp_path))
    with workspace(Silent()) as work, pytest.raises(DataError, match="x 1x4") as caught:
        bound_files(loaded, [{"x": (1, 4)}], work, [None])
    assert ("--shapes" in (caught.value.fix or "")) == is_open


def _half_model() -> ModelProto:
    """y = x·w in half precision."""
    weights = [weight("w", np.full((4, 4), 0.3, np.float16))]
    ends = [value(name, [1, 4], TensorProto.FLOAT16) for name in "xy"]
    return model([node("MatMul", ["x", "w"], ["y"])], ends[:1], ends[1:], weights)


def test_half_precision_is_widened_where_only_rounding_changes(tmp_path: Path) -> None:
    made = load(save(_half_model(), tmp_path))
    with workspace(Silent()) as work:
        files = bound_files(made, [{}], work, [None], for_cpu=True)
        other = bound_files(made, [{}], work, [None])
    assert (files.model_path.name, files.is_simplified) == ("wide.onnx", True)
    assert other.model_path.name != "wide.onnx"
    assert any("half precision is computed in fp32" in note for note in files.notes)


def test_half_precision_is_kept_where_answers_would_change(tmp_path: Path) -> None:
    made = model(
        [
            node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
            node("Concat", ["h", "none"], ["m"], axis=0),
            node("Cast", ["m"], ["w"], to=TensorProto.FLOAT),
            node("Concat", ["x", "zeros"], ["e"], axis=0),
            node("Sub", ["e", "w"], ["y"]),  # what half precision rounds away is the answer
        ],
        outputs=[value("y", [2, 4])],
        weights=[
            weight("none", np.zeros((1, 4), np.float16)),
            weight("zeros", np.zeros((1, 4), np.float32)),
        ],
    )
    feeds = {"x": np.linspace(1.0, 1.001, 4, dtype=np.float32)[None]}
    with workspace(Silent()) as work:
        files = bound_files(load(save(made, tmp_path)), [{}], work, [feeds], for_cpu=True)
    assert files.model_path.name != "wide.onnx"
    assert any("half precision is kept" in note for note in files.notes)
