"""What is cut into parts, and what a process takes without any weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.emit.partition import read, streamable
from planner.graph.analysis import peak_activation_bytes
from planner.graph.build import build_graph
from planner.ir.graph import Graph
from planner.runtime.ort import make_session, tensor_specs
from planner.runtime.tensors import read_tensors
from planner.spec.manifest import TensorSpec
from planner.spec.plan import Plan
from planner.spec.session import SessionSettings
from planner.steps.building import synthetic
from planner.steps.files import Files
from planner.steps.process import runtime_bytes
from planner.steps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Model:
    """What is cut into parts."""

    part: Path
    proto: Any
    """The ONNX model, its weights where they are."""
    graph: Graph
    fetched: Mapping[str, int]
    """Constant -> bytes that come with every run where it streams."""
    tables: frozenset[str]
    settings: SessionSettings
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feeds: tuple[Mapping[str, Any], ...]
    """Per workload shape."""
    runtime_bytes: int
    activation_bytes: int


def open_model(plan: Plan, part: Path, files: Files, work: Workspace) -> Model:
    """The model in the file `part`, with inputs of every shape of the workload."""
    proto, (graph,) = read(part)
    fetched, tables = streamable(proto)
    inputs, outputs = tensor_specs(make_session(part, SessionSettings()))
    activations = max(
        peak_activation_bytes(build_graph(part, inputs=shape.shapes)) for shape in plan.workload
    )
    return Model(
        part=part,
        proto=proto,
        graph=graph,
        fetched=fetched,
        tables=tables,
        settings=plan.settings,
        inputs=inputs,
        outputs=outputs,
        feeds=feeds_of(plan, files, inputs, work),
        runtime_bytes=runtime_bytes(work),
        activation_bytes=activations,
    )


def feeds_of(
    plan: Plan, files: Files, inputs: tuple[TensorSpec, ...], work: Workspace
) -> tuple[Mapping[str, Any], ...]:
    """Inputs of every workload shape: the calibration's where they are kept."""
    found = []
    for shape in plan.workload:
        kept = files.inputs_path(shape.shapes)
        known = kept.exists()
        found.append(read_tensors(kept) if known else synthetic(shape, files, inputs, work))
    return tuple(found)
