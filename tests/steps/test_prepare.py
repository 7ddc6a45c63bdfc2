"""What a prepared model is known by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from planner.graph.store import INLINE_LIMIT_BYTES
from planner.progress import Silent
from planner.spec.constraints import Constraints
from planner.steps.prepare import prepare
from planner.steps.workspace import workspace
from tests.graph.nasties import model, node, save, value

ROWS = 4096
COLUMNS = INLINE_LIMIT_BYTES // (4 * ROWS) + 1
"""A weight too large to be kept inside the model file."""


def _fine_tune(folder: Path, first_weight: float) -> Path:
    """x W with W nearly empty, in a file beside the model."""
    folder.mkdir()
    with (folder / "w.bin").open("wb") as file:
        file.write(np.float32(first_weight).tobytes())
        file.truncate(4 * ROWS * COLUMNS)
    weight = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[ROWS, COLUMNS])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    made = model([node("MatMul", ["x", "W"], ["y"])], [value("x", (1, ROWS))])
    made.graph.initializer.append(weight)
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, [1, COLUMNS]))
    return save(made, folder)


def test_large_models_that_differ_in_a_weight_are_different_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path / "cache"))
    with workspace(Silent()) as work:
        one, other = (
            prepare(Constraints(model=_fine_tune(tmp_path / name, weight)), work).sha256
            for name, weight in (("one", 1.0), ("other", 2.0))
        )
    assert one != other
