"""A transformer posed for one device of which it may take little memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from planner.graph.skeleton import load_skeleton
from planner.ir.problem import Problem
from planner.spec.constraints import Constraints
from planner.steps.away.narrowed import narrowed
from planner.steps.away.offers import pose_away
from planner.steps.away.target import find_target
from tests.place.models import memory, shapes, transformer

DEVICE = "a100-sxm-80gb"


def on_one_device(folder: Path, width: int) -> Problem:
    """Two layers of this width in 16 bits, 400 MiB of memory besides what the device takes."""
    path = folder / "model.onnx"
    onnx.save(transformer(2, width), path)
    workload = {"default": shapes(8, 0, width)}
    constraints = Constraints.model_validate(
        {
            "model": path, "no_weights": True, "workload": [{"shapes": workload["default"]}],
            "target": {"device": DEVICE, "gpus": "1", "memory": memory(DEVICE, 400)},
            "compression": {"formats": ["fp16"]},
        }
    )  # fmt: skip
    away = find_target(constraints)
    posed = pose_away(constraints, load_skeleton(path, workload), away)
    return narrowed(posed.problem, replace(posed.problem.limits, devices=1))
