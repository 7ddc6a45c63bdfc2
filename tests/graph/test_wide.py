"""Half precision becomes float32 inside; types at the ends stay, answers too but for rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from planner.graph.equality import run_with_onnxruntime
from planner.graph.wide import can_widen, widen
from planner.runtime.compare import nmse
from tests.graph.nasties import model, node, save, value, weight

_X = np.linspace(-1, 1, 12, dtype=np.float16).reshape(3, 4)
_W = np.linspace(-2, 2, 16, dtype=np.float16).reshape(4, 4)
_HALF = TensorProto.FLOAT16


def _half(name: str, shape: list[int]) -> onnx.ValueInfoProto:
    return value(name, shape, _HALF)


def _widened(made: ModelProto, folder: Path) -> ModelProto:
    assert widen(save(made, folder), folder / "wide.onnx")
    found = onnx.load(folder / "wide.onnx")
    onnx.checker.check_model(found, full_check=True)
    return found


def _both(folder: Path, feeds: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    before, after = (
        dict(run_with_onnxruntime(folder / name, feeds, 1)[0])
        for name in ("model.onnx", "wide.onnx")
    )
    return before, after


def _inner_types(found: ModelProto) -> set[int]:
    return {one.type.tensor_type.elem_type for one in found.graph.value_info}


def test_products_are_float32_and_ends_are_not(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["y"])]
    made = model(nodes, [_half("x", [3, 4])], [_half("y", [3, 4])], [weight("w", _W)])
    found = _widened(made, tmp_path)
    assert {one.data_type for one in found.graph.initializer} == {TensorProto.FLOAT}
    assert _HALF not in _inner_types(found)
    before, after = _both(tmp_path, {"x": _X})
    assert after["y"].dtype == np.float16
    assert nmse(before["y"], after["y"]) < 1e-6


def test_casts_constants_and_draws_change_their_type(tmp_path: Path) -> None:
    two = numpy_helper.from_array(np.full(1, 2.0, np.float16), "")
    nodes = [
        node("Cast", ["x"], ["h"], to=_HALF),
        helper.make_node("ConstantOfShape", ["shape"], ["twos"], value=two),
        node("Mul", ["h", "twos"], ["m"]),
        node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    shape = weight("shape", np.array([3, 4], np.int64))
    made = model(nodes, [value("x", [3, 4])], [value("y", [3, 4])], [shape])
    found = _widened(made, tmp_path)
    assert _HALF not in _inner_types(found)
    before, after = _both(tmp_path, {"x": _X.astype(np.float32)})
    np.testing.assert_allclose(before["y"], after["y"], rtol=1e-3)


def test_bodies_and_what_they_capture_are_widened(tmp_path: Path) -> None:
    def body(name: str, kind: str) -> onnx.GraphProto:
        return helper.make_graph([node(kind, ["x", "w"], [name])], name, [], [_half(name, [3, 4])])

    choose = node(
        "If", ["flag"], ["y"], then_branch=body("t", "MatMul"), else_branch=body("e", "MatMul")
    )
    flag = value("flag", [], TensorProto.BOOL)
    made = model([choose], [flag, _half("x", [3, 4])], [_half("y", [3, 4])], [weight("w", _W)])
    _widened(made, tmp_path)
    before, after = _both(tmp_path, {"x": _X, "flag": np.array(True)})
    assert nmse(before["y"], after["y"]) < 1e-6


def test_what_passes_through_keeps_its_name_and_type(tmp_path: Path) -> None:
    nodes = [node("Neg", ["x"], ["y"]), node("Add", ["y", "c"], ["z"])]
    ends = [_half("y", [3, 4]), _half("z", [3, 4])]
    made = model(nodes, [_half("x", [3, 4])], ends, [weight("c", np.full(1, 0.5, np.float16))])
    found = _widened(made, tmp_path)
    assert [one.name for one in found.graph.output] == ["y", "z"]
    before, after = _both(tmp_path, {"x": _X})
    for name in "yz":
        np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.parametrize("domain", ["", "my.own"])
def test_nothing_to_widen_and_unknown_operators(domain: str, tmp_path: Path) -> None:
    kind = TensorProto.FLOAT if domain == "" else _HALF
    made = model(
        [helper.make_node("Relu", ["x"], ["y"], domain=domain)],
        [value("x", [4], kind)],
        [value("y", [4], kind)],
    )
    assert not can_widen(made)
