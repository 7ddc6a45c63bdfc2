"""A model before and after it was rewritten: the same answers, and which operators are left."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto

from planner.graph import infer
from planner.graph.equality import Feeds, run_with_onnxruntime
from planner.graph.rewrite import rewrite
from planner.graph.rewrite.net import BLOCK
from planner.runtime.compare import nmse
from tests.graph.nasties import save


def rewritten(
    made: ModelProto, folder: Path, feeds: Feeds, max_nmse: float, block: int = BLOCK
) -> list[str]:
    """Operators of the rewritten model, which is seen to answer as before; the model's own where
    nothing is gained."""
    infer.annotate(made)
    path, out = save(made, folder), folder / "rewritten.onnx"
    if rewrite(path, out, block=block) == 0:
        return [one.op_type for one in made.graph.node]
    found = onnx.load(out)
    onnx.checker.check_model(found, full_check=True)
    (before,), (after,) = (run_with_onnxruntime(one, feeds, 1) for one in (path, out))
    assert before.keys() == after.keys()
    for name in before:
        assert nmse(before[name], after[name]) <= max_nmse
    return [one.op_type for one in found.graph.node]


def shapes_of(made: ModelProto) -> dict[str, list[int]]:
    """Inputs and their dimensions."""
    return {
        one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in made.graph.input
    }
