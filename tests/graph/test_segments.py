"""Models in parts: every operator once, parts in an order that runs, the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from planner.graph.segments import MIN_NODES, Cut, cut, extract
from planner.ops import reference
from tests.ops import models


def uncovered_in_the_middle(before: int = MIN_NODES, after: int = MIN_NODES) -> onnx.ModelProto:
    """Relu's, a product; a sort that no code is generated for; more of the first."""
    node = helper.make_node
    nodes = [node("MatMul", ["x", "w"], ["a0"])]
    nodes += [node("Sin", [f"a{i}"], [f"a{i + 1}"], name=f"before{i}") for i in range(before)]
    nodes += [node("TopK", [f"a{before}", "k"], ["b0", "places"], axis=1, name="sort")]
    nodes += [node("Cos", [f"b{i}"], [f"b{i + 1}"], name=f"after{i}") for i in range(after)]
    nodes += [node("Add", [f"b{after}", f"a{before}"], ["y"])]
    weights = {"w": models.random(8, 8), "k": np.array([8], np.int64)}
    return models.model(nodes, {"x": (4, 8)}, {"y": (4, 8)}, weights)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def run_in_parts(path: Path, found: Cut, feeds: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Generated parts by the reference evaluator, the others by ONNX Runtime."""
    alive = dict(feeds)
    for number, part in enumerate(found.segments):
        given = {name: alive[name] for name in part.inputs}
        if part.program is not None:
            alive.update(reference.run(part.program, given))
            continue
        target = folder / f"{number}.onnx"
        extract(path, part, target)
        session = ort.InferenceSession(target, providers=["CPUExecutionProvider"])
        alive.update(zip(part.outputs, session.run(list(part.outputs), given), strict=True))
    return alive


def test_parts_alternate_and_answer_like_the_whole(tmp_path: Path) -> None:
    path = saved(uncovered_in_the_middle(), tmp_path)
    (found,) = cut(path)
    assert [part.program is not None for part in found.segments] == [True, False, True]
    assert found.segments[1].nodes == ("sort",)
    assert "TopK" in found.segments[1].reasons[0]
    assert (found.covered, found.operators) == (2 * MIN_NODES + 2, 2 * MIN_NODES + 3)
    feeds = {"x": models.random(4, 8, seed=3)}
    (wanted,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    made = run_in_parts(path, found, feeds, tmp_path)
    np.testing.assert_allclose(made["y"], wanted, rtol=1e-5, atol=1e-5)


def test_a_part_too_small_to_cross_over_for_is_left_to_the_library(tmp_path: Path) -> None:
    (found,) = cut(saved(uncovered_in_the_middle(after=1), tmp_path))
    assert [part.program is not None for part in found.segments] == [True, False]
    assert "after0" in found.segments[1].nodes


def test_a_small_model_that_is_all_covered_is_one_part(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    (found,) = cut(saved(models.model([node], {"x": (3,)}, {"y": (3,)}, {}), tmp_path))
    assert [part.program is not None for part in found.segments] == [True]


def test_every_set_of_shapes_is_cut_between_the_same_operators(tmp_path: Path) -> None:
    """Sizes that the graph computes from its inputs are known once those are."""
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["s"], name="shape"),
        node("Gather", ["s", "first"], ["rows"], name="rows"),
        node("Concat", ["rows", "rest"], ["target"], axis=0, name="target"),
        node("Reshape", ["x", "target"], ["r"], name="reshape"),
        node("MatMul", ["r", "w"], ["y"], name="product"),
    ]
    model = models.model(
        nodes,
        {"x": (2, 4, 8)},
        {"y": (2, 32, 8)},
        {
            "first": np.array([0], np.int64),
            "rest": np.array([4, 8], np.int64),
            "w": models.random(8, 8),
        },
    )
    value = model.graph.input[0].type.tensor_type.shape.dim[0]
    value.dim_param = "batch"
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    found = cut(saved(model, tmp_path), [{"x": (2, 4, 8)}, {"x": (5, 4, 8)}])
    assert [len(one.segments) for one in found] == [1, 1]
    shapes = []
    for one in found:
        program = one.segments[0].program
        assert program is not None
        shapes.append(program.types["y"].shape)
    assert shapes == [(2, 4, 8), (5, 4, 8)]


@pytest.mark.parametrize("build", [models.block, models.attention])
def test_every_nest_belongs_to_an_operator(build: object, tmp_path: Path) -> None:
    assert callable(build)
    (found,) = cut(saved(build(), tmp_path))
    part = found.segments[0]
    assert part.program is not None
    assert {nest.name for nest in part.program.nests} <= part.owners.keys()
    assert set(part.owners.values()) <= set(part.nodes)
