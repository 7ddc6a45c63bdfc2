"""`configs/large-model.yaml` plans what it says: the zoo's GPT-3 13B, here of two layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from benchmarks.zoo_families import gpt
from planner import pipeline
from planner.spec.resolve import resolve
from planner.spec.yaml_source import load

CONFIG = Path(__file__).parents[2] / "configs" / "large-model.yaml"


def test_the_file_plans_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(gpt.SIZES["gpt3-13b"], layers=2)
    monkeypatch.setitem(gpt.SIZES, "gpt3-13b", short)
    path = tmp_path / "gpt3-13b.onnx"
    onnx.save(gpt.build("gpt3-13b", "float32"), path)
    found = resolve({}, {}, load(CONFIG)).constraints
    solver = found.solver.model_copy(update={"time_limit_s": 6.0})
    given = {"model": path, "no_weights": True, "solver": solver}
    constraints = found.model_copy(update=given)
    plan = pipeline.plan(constraints).plan
    assert plan.placement is not None
    assert [shape.name for shape in plan.workload] == ["prefill", "decode"]
    assert plan.placement.devices == 1
    pinned = {group.format for group in plan.placement.groups if group.name.startswith("h.0/")}
    assert pinned == {"fp16"}
    assert not any("matches no operator" in warning for warning in plan.warnings)
