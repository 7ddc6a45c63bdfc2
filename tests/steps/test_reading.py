"""What was read from a model once is known again, and only while it is still the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import helper, numpy_helper

from planner.errors import ModelError
from planner.graph.build import build_graph
from planner.graph.load import load
from planner.graph.sandbox import Sandbox
from planner.profiling.store import Store
from planner.progress import Silent
from planner.steps.reading import kept_graph, known_model
from planner.steps.workspace import Workspace
from tests.profiling.build import model, perceptron, random


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workspace]:
    store = Store(tmp_path / "store.sqlite")
    yield Workspace(store, tmp_path / "kept", tmp_path, Silent())
    store.close()


def _external(folder: Path) -> Path:
    folder.mkdir()
    path = folder / "large.onnx"
    made, _ = perceptron()
    onnx.save(made, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_a_model_is_checked_once_wherever_it_lies(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _external(tmp_path / "first")
    assert known_model(path, work) == load(path)
    moved = tmp_path / "second"
    path.parent.rename(moved)
    expected = load(moved / path.name)
    monkeypatch.setattr(Sandbox, "call", None)  # whoever reads anew fails
    assert known_model(moved / path.name, work) == expected


def test_other_weights_beside_the_same_file_are_another_model(
    work: Workspace, tmp_path: Path
) -> None:
    path = _external(tmp_path / "first")
    first = known_model(path, work)
    weights = path.with_name("weights.bin")
    content = bytearray(weights.read_bytes())
    content[5] ^= 1
    weights.write_bytes(content)
    assert known_model(path, work).sha256 != first.sha256
    weights.unlink()
    with pytest.raises(ModelError, match=r"weights\.bin"):
        known_model(path, work)


def test_data_that_now_lies_elsewhere_is_refused_as_it_would_be_at_first(
    work: Workspace, tmp_path: Path
) -> None:
    path = _external(tmp_path / "first")
    known_model(path, work)
    outside = tmp_path / "outside.bin"
    path.with_name("weights.bin").rename(outside)
    path.with_name("weights.bin").symlink_to(outside)
    with pytest.raises(ModelError, match="outside"):
        known_model(path, work)


def test_what_is_refused_is_refused_again(work: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model at all")
    for _ in range(2):
        with pytest.raises(ModelError, match="not an ONNX model"):
            known_model(path, work)


def test_a_graph_comes_back_as_it_was(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = {"x": random(2, 3), "c": random(1) > 0}
    branch = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["b"])],
        "branch",
        [],
        [onnx.ValueInfoProto(name="b")],
        [numpy_helper.from_array(random(3), "w")],
    )
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("NonZero", ["y"], ["n"]),
        helper.make_node("Clip", ["y", "", "high"], ["z"]),
    ]
    path = tmp_path / "model.onnx"
    onnx.save(model(nodes, feeds, ["n", "z"], {"high": random(1)[0]}), path)
    graph = build_graph(path)
    assert any(op.captured for op in graph.ops)
    assert any(tensor.shape is None for tensor in graph.tensors.values())
    assert kept_graph(path, work) == graph
    monkeypatch.setattr(Sandbox, "call", None)  # whoever reads anew fails
    assert kept_graph(path, work) == graph
