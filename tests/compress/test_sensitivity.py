"""Sensitivities without building, against models really built with one operator changed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from planner.compress.apply import apply
from planner.compress.base import NATIVE, Format
from planner.compress.calibrate import calibrate
from planner.compress.measure import joint_error
from planner.compress.sensitivity import (
    Choice,
    Memory,
    SensitivitySettings,
    affordable_runs,
    sensitivities,
)
from planner.errors import UsageError
from tests.compress.build import SESSION, random, write
from tests.compress.conftest import Case, case_of

_FACTOR = {"lstm": 3.0, "softmax": 15.0}
"""LSTM's kernel also rounds its hidden state, step by step; Softmax's looks exponentials up."""


def _measured(case: Case) -> dict[Choice, float]:
    return sensitivities(
        case.path, case.graph, case.choices, case.samples, case.calibration, SESSION
    )


def test_they_match_models_built_for_one_choice(case: Case, tmp_path: Path) -> None:
    found = _measured(case)
    assert set(found) == set(case.choices)
    for (op, form), predicted in found.items():
        report = apply(
            case.path, {op: form}, case.ranges, tmp_path / "one.onnx", smoothing=case.smoothing
        )
        built = joint_error(case.path, report.path, case.samples, SESSION).worst
        if report.realised[op] != form:
            assert predicted == built == 0.0
            continue
        factor = _FACTOR.get(op, 1.2)
        assert built / factor < predicted + 1e-9, (op, form, predicted, built)
        assert predicted < built * factor + 1e-9, (op, form, predicted, built)


def test_a_small_memory_limit_changes_nothing(mixer_case: Case) -> None:
    settings = SensitivitySettings(memory_size_bytes=1)
    case = mixer_case
    pieces = sensitivities(
        case.path, case.graph, case.choices, case.samples, case.calibration, SESSION, settings
    )
    assert pieces == pytest.approx(_measured(case), rel=1e-6)


def test_weights_beside_the_file_change_nothing(mixer_case: Case, tmp_path: Path) -> None:
    case = mixer_case
    path = tmp_path / "beside.onnx"
    made = onnx.load(case.path)
    onnx.save(made, path, save_as_external_data=True, location="w.bin", size_threshold=256)
    assert (tmp_path / "w.bin").stat().st_size > 0
    arguments = (case.graph, case.choices, case.samples, case.calibration, SESSION)
    assert sensitivities(path, *arguments) == sensitivities(case.path, *arguments)
    tensors = [op.outputs[0] for op in case.graph.ops]
    beside, inside = (calibrate(each, case.graph, tensors, case.samples, SESSION)
                      for each in (path, case.path))  # fmt: skip
    assert beside == inside


def test_remembered_values_are_not_measured_again(cnn_case: Case) -> None:
    stored: dict[Choice, float] = {}
    known: dict[Choice, float] = {("conv1", Format.INT8_STATIC): 0.125}
    choices = [("conv1", Format.INT8_STATIC), ("gemm", Format.INT8_WO), ("gemm", NATIVE)]
    found = sensitivities(
        cnn_case.path,
        cnn_case.graph,
        choices,
        cnn_case.samples,
        cnn_case.calibration,
        SESSION,
        memory=Memory(known.get, stored.__setitem__),
    )
    assert found["conv1", Format.INT8_STATIC] == 0.125
    assert found["gemm", NATIVE] == 0.0
    assert list(stored) == [("gemm", Format.INT8_WO)]


def test_work_is_bounded_by_count(cnn_case: Case) -> None:
    tight = SensitivitySettings(max_multiplications=1.0)
    assert affordable_runs(cnn_case.graph, 10, tight) == 1
    assert affordable_runs(cnn_case.graph, 1, SensitivitySettings(max_runs=5)) == 5


def test_an_unknown_operator_is_refused(cnn_case: Case) -> None:
    with pytest.raises(UsageError, match="no operator 'nowhere'"):
        sensitivities(
            cnn_case.path,
            cnn_case.graph,
            [("nowhere", Format.INT8_WO)],
            cnn_case.samples,
            cnn_case.calibration,
            SESSION,
        )


def test_a_model_older_than_additions_with_kernels_is_measured(tmp_path: Path) -> None:
    """ONNX Runtime runs a Conv of opset 6, and no Add of it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    case = case_of(
        *write(
            tmp_path / "old.onnx",
            nodes,
            {"x": (TensorProto.FLOAT, (1, 3, 8, 8))},
            ["y"],
            {"w": random(8, 3, 3, 3)},
            opset=6,
        )
    )
    found = _measured(case)
    assert found[("conv", Format.INT8_STATIC)] > 0
    assert set(found) == set(case.choices)
