"""Measuring side by side changes who measures, not what is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from planner.compress.base import Calibration, Format
from planner.graph.sandbox import Sandbox
from planner.profiling.store import Store
from planner.progress import Silent
from planner.spec.constraints import Constraints
from planner.steps import sensitivity
from planner.steps.prepare import prepare
from planner.steps.sensitivity import measured_sensitivities
from planner.steps.workspace import Workspace
from tests.endtoend import mlp


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workspace]:
    store = Store(tmp_path / "store.sqlite")
    yield Workspace(store, tmp_path / "kept", tmp_path, Silent())
    store.close()


def test_one_process_and_several_find_the_same(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(mlp(), path)
    prepared = prepare(Constraints(model=path), work)
    ops = [op.name for op in prepared.graph.ops if op.op_type in ("MatMul", "Gemm")]
    choices = [(op, form) for op in ops for form in (Format.INT8_DYNAMIC, Format.INT8_WO)]
    found = []
    for cores in (1, 2, 64):
        monkeypatch.setattr(sensitivity, "usable_cores", lambda cores=cores: cores)
        monkeypatch.setattr(sensitivity, "_BLOCK_OPS", 1)
        sandbox = Sandbox("measuring", str(path))
        found.append(
            measured_sensitivities(prepared, prepared.samples[0], choices, Calibration(), sandbox)
        )
    assert list(found[0]) == choices
    assert all(value > 0 for value in found[0].values())
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-6)


def test_every_choice_is_in_one_part_and_parts_are_even() -> None:
    choices = [(f"op{i}", form) for i in range(100) for form in (Format.INT8_WO, Format.INT4_WO)]
    parts = sensitivity._parts(choices, 2)
    assert sorted(choice for part in parts for choice in part) == sorted(choices)
    assert max(map(len, parts)) - min(map(len, parts)) <= 2 * sensitivity._BLOCK_OPS
    assert sensitivity._parts(choices[:2], 2) == [choices[:2]]
