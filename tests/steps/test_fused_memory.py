"""What a plan of generated kernels counts as memory: what a plan of library kernels counts too."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import onnx
import pytest

from planner import pipeline, resources
from planner.cost.memory import DRIVER_BYTES
from planner.cost.predictor import Predictor
from planner.errors import InfeasibleError
from planner.profiling.store import Store
from planner.spec.constraints import Constraints
from planner.spec.plan import Plan
from planner.spec.profile import read_profile
from tests.graph.test_segments import uncovered_in_the_middle
from tests.kernels.run import needs_triton
from tests.ops import models

H200 = "h200-sxm-141gb"


def planned(model: onnx.ModelProto, folder: Path, **target: Any) -> Plan:
    path = folder / "model.onnx"
    onnx.save(model, path)
    asked = {"model": str(path), "target": {"device": H200, **target}}
    with closing(Store(folder / "store.db")) as store:
        return pipeline.plan(Constraints.model_validate(asked), store=store).plan


def predictor() -> Predictor:
    return Predictor(read_profile(next(p for p in resources.profiles() if p.stem == H200)))


@needs_triton
def test_kernels_alone_take_the_drivers_context(tmp_path: Path) -> None:
    plan = planned(models.block(width=256), tmp_path)
    assert plan.fusion is not None
    memory = plan.prediction.memory_size_bytes.expected
    assert DRIVER_BYTES < memory < DRIVER_BYTES + 100e6


@needs_triton
def test_parts_of_a_library_bring_what_placed_plans_count(tmp_path: Path) -> None:
    at = predictor()
    fixed = at.runtime_context_bytes + at.workspace_bytes
    plan = planned(uncovered_in_the_middle(), tmp_path)
    assert plan.fusion is not None
    memory = plan.prediction.memory_size_bytes.expected
    assert fixed < memory < fixed + 100e6


@needs_triton
def test_a_limit_below_the_context_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError) as refused:
        planned(models.block(width=256), tmp_path, memory="500MB", offload=[])
    (limit,) = refused.value.report.limits  # type: ignore[attr-defined]
    assert limit.key == "target.memory"
    assert limit.nearest is not None
    assert DRIVER_BYTES < limit.nearest < DRIVER_BYTES + 100e6
    kept = planned(models.block(width=256), tmp_path, memory="700MB")
    assert kept.fusion is not None
