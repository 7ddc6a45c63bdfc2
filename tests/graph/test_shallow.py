"""A bias becomes a row of its matrix where scores are many and products shallow: same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.graph import infer
from planner.graph.equality import run_with_onnxruntime
from planner.graph.rewrite import rewrite_in_place, shallow
from planner.graph.rewrite.shallow import deepen
from planner.runtime.compare import nmse
from tests.graph.nasties import model, node, save, value, weight
from tests.graph.rewritten import rewritten


def _head(rows: tuple[int, ...], depth: int, columns: int, *, is_first: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(depth)
    weights = [
        weight("w", rng.standard_normal((depth, columns)).astype(np.float32)),
        weight("b", rng.standard_normal(columns).astype(np.float32)),
    ]
    nodes = [
        node("Tanh", ["x"], ["t"]),
        node("MatMul", ["t", "w"], ["m"]),
        node("Add", ["b", "m"] if is_first else ["m", "b"], ["y"]),
    ]
    made = model(nodes, [value("x", [*rows, depth])], [value("y", None)], weights)
    infer.annotate(made)
    return made


@settings(max_examples=40)
@given(
    rows=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    depth=st.integers(1, 20),
    columns=st.integers(1, 9),
    is_first=st.booleans(),
)
def test_any_head_answers_as_before(
    rows: tuple[int, ...],
    depth: int,
    columns: int,
    is_first: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    before = _head(rows, depth, columns, is_first=is_first)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shallow, "_LEAST_RESULTS", 1)
        patch.setattr(shallow, "_WIDER", 0)
        rewrite_in_place(after, (deepen,))
    assert [one.op_type for one in after.graph.node] == ["Tanh", "Concat", "MatMul"]
    folder = tmp_path_factory.mktemp("shallow")
    feeds = {"x": np.random.default_rng(1).standard_normal((*rows, depth)).astype(np.float32)}
    (first,), (second,) = (
        run_with_onnxruntime(save(one, folder, f"{n}.onnx"), feeds, 1)
        for n, one in enumerate((before, after))
    )
    assert first["y"].shape == second["y"].shape
    assert nmse(first["y"], second["y"]) < 1e-10


def test_scores_of_many_words_are_written_once(tmp_path: Path) -> None:
    made = _head((1, 16), 16, 5000, is_first=True)
    feeds = {"x": np.random.default_rng(2).standard_normal((1, 16, 16)).astype(np.float32)}
    assert rewritten(made, tmp_path, feeds, 1e-10) == ["Tanh", "Concat", "MatMul"]


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(16, shallow.DEEPEST + 1, 5000), (16, 16, 64), (70_000, 32, 1), (2048, 64, 64)],
)
def test_deep_and_narrow_products_keep_their_bias(rows: int, depth: int, columns: int) -> None:
    made = _head((rows,), depth, columns, is_first=False)
    rewrite_in_place(made)
    assert [one.op_type for one in made.graph.node] == ["Tanh", "MatMul", "Add"]
