"""Which file plain ONNX Runtime runs."""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto

from planner.graph.load import load
from planner.progress import Silent
from planner.steps.files import Files, bound_files
from planner.steps.workspace import workspace
from tests.graph.nasties import model, node, relu, save


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
