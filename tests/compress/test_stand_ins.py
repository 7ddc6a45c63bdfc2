"""Large matrices quantised beside the tool are what the tool itself would have made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planner.compress import stand_ins
from planner.compress.apply import apply
from planner.compress.base import NATIVE, BuildSettings, Format
from planner.errors import ModelError
from tests.compress.build import Array, random, write

RANGES = dict.fromkeys(("x", "a", "b", "c", "y", "b__product"), (-3.0, 4.0))


def _matrix(rows: int, columns: int, seed: int) -> Array:
    """With a column of zeros, one of a single value, and one of very small values."""
    value = random(rows, columns, seed=seed)
    value[:, 0], value[:, 1], value[:, 2] = 0.0, 0.5, 1e-39
    return value


def _model(folder: Path, *, outside: bool) -> Path:
    """Two products in a row, a Gemm, and a native product that shares the first matrix."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="one"),
        helper.make_node("Gemm", ["a", "w2", "bias"], ["b"], name="gemm", transB=1),
        helper.make_node("MatMul", ["b", "w3"], ["c"], name="two"),
        helper.make_node("MatMul", ["c", "w1"], ["y"], name="native"),
    ]
    weights = {
        "w1": _matrix(40, 48, 1),
        "w2": _matrix(56, 48, 2),
        "w3": _matrix(56, 40, 3),
        "bias": random(56, seed=4),
    }
    inputs: dict[str, tuple[int, Sequence[int]]] = {"x": (TensorProto.FLOAT, (3, 40))}
    path, _ = write(folder / "inside.onnx", nodes, inputs, ["y"], weights)
    if not outside:
        return path
    target = folder / "outside.onnx"
    onnx.save(
        onnx.load(path), target, save_as_external_data=True, location="w", size_threshold=2048
    )
    return target


def _content(path: Path) -> tuple[list[bytes], dict[str, tuple[str, list[int], bytes]]]:
    """Nodes, and the values of all weights, however they are written down."""
    made = onnx.load(path)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    weights = {name: (str(v.dtype), list(v.shape), v.tobytes()) for name, v in arrays.items()}
    return [node.SerializeToString() for node in made.graph.node], weights


@pytest.mark.parametrize("reduce_range", [False, True])
@pytest.mark.parametrize("form", [Format.INT8_DYNAMIC, Format.INT8_STATIC])
@pytest.mark.parametrize("outside", [False, True])
def test_the_file_is_the_tool_s_own(
    form: Format,
    reduce_range: bool,
    outside: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = BuildSettings(reduce_range=reduce_range)
    assignment = dict.fromkeys(("one", "gemm", "two"), form)
    path = _model(tmp_path, outside=outside)
    made = []
    for least in (1 << 16, 1000):
        monkeypatch.setattr(stand_ins, "_LEAST_ELEMENTS", least)
        report = apply(path, assignment, RANGES, tmp_path / "made.onnx", settings)
        assert set(report.realised.values()) == {form, NATIVE}
        made.append(_content(report.path))
    assert made[0] == made[1]


def test_a_matrix_is_read_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_ins, "_LEAST_ELEMENTS", 1000)
    path = _model(tmp_path, outside=True)
    made = []
    for size in (1 << 20, 1):
        monkeypatch.setattr(stand_ins, "_ROWS_AT_ONCE_BYTES", size)
        report = apply(path, {"two": Format.INT8_DYNAMIC}, RANGES, tmp_path / "made.onnx")
        made.append(report.path.read_bytes())
    assert made[0] == made[1]


def test_what_is_not_finite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_ins, "_LEAST_ELEMENTS", 1000)
    path = _model(tmp_path, outside=False)
    made = onnx.load(path)
    tensor = next(t for t in made.graph.initializer if t.name == "w3")
    value = np.array(onnx.numpy_helper.to_array(tensor))
    value[0, 0] = np.nan
    tensor.CopyFrom(onnx.numpy_helper.from_array(value, "w3"))
    onnx.save(made, path)
    with pytest.raises(ModelError, match="'w3' has NaN or infinite values"):
        apply(path, {"two": Format.INT8_DYNAMIC}, RANGES, tmp_path / "made.onnx")
