"""A weight that two groups read is stored once on a stage, and on every stage that reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks.zoo_families import gpt
from planner import pipeline
from planner.spec.constraints import Constraints
from planner.spec.placement import PlacementPlan
from tests.place.models import memory

DEVICE = "a100-sxm-80gb"
TABLE_BYTES = 50257 * 768 * 2
"""The embedding of GPT-2 in 16 bits: 77 MB. It is the output projection as well."""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """GPT-2 of two layers, 28 MB of other weights."""
    monkeypatch.setitem(gpt.SIZES, "gpt2", replace(gpt.SIZES["gpt2"], layers=2))
    path = tmp_path / "gpt2.onnx"
    onnx.save(gpt.build("gpt2", "float32"), path)
    return path


def placed(model: Path, gpus: str, free_mib: float) -> PlacementPlan:
    given: dict[str, Any] = {
        "model": model, "no_weights": True, "compression": {"formats": ["fp16"]},
        "workload": [{"shapes": {"input_ids": (1, 1), "past_key_0": (1, 12, 8, 64)}}],
        "target": {
            "device": DEVICE, "gpus": gpus, "memory": memory(DEVICE, free_mib), "offload": [],
        },
    }  # fmt: skip
    plan = pipeline.plan(Constraints.model_validate(given)).plan
    assert plan.placement is not None
    return plan.placement


def test_a_tied_weight_is_stored_once_on_a_device(model: Path) -> None:
    """130 MiB hold the table and the layers; they do not hold the table twice."""
    (stage,) = placed(model, "1", 130).stages
    assert TABLE_BYTES < stage.memory.weights < 2 * TABLE_BYTES
    assert stage.memory.used <= stage.memory.capacity


def test_stages_store_it_each_for_themselves(model: Path) -> None:
    """With room for hardly more than the table, two devices share it, or have one each."""
    placement = placed(model, "1..2", 92)
    assert placement.devices == 2
    stored = sum(stage.devices * stage.memory.weights for stage in placement.stages)
    assert stored >= TABLE_BYTES * len(placement.stages)
