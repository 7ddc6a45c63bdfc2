"""What a process of a plan takes that keeps all weights."""

from __future__ import annotations

from pathlib import Path

from planner.runtime.ort import make_session, tensor_specs
from planner.spec.plan import Plan
from planner.steps.building import part_of, parts_of
from planner.steps.files import files_of
from planner.steps.process import peak_bytes
from planner.steps.reading import planned_model
from planner.steps.streaming.model import feeds_of
from planner.steps.workspace import Workspace


def whole_peak_bytes(plan: Plan, path: Path, work: Workspace) -> int | None:
    """Its peak, measured on every shape; None where this system does not tell."""
    files = files_of(plan, planned_model(plan.model, path, work), work)
    part = part_of(plan, path, files, work)
    inputs, outputs = tensor_specs(make_session(part, plan.settings))
    folder = work.scratch / "whole"
    folder.mkdir(exist_ok=True)
    parts = parts_of(plan, part, inputs, outputs, work)
    return peak_bytes(plan, parts, (inputs, outputs), feeds_of(plan, files, inputs, work), folder)
