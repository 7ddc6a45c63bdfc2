"""What is cut into parts, and what a process takes without any weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planner.emit.partition import read, streamable, with_copies
from planner.graph.analysis import peak_activation_bytes
from planner.graph.build import build_graph
from planner.ir.graph import Graph
from planner.place.order import compact
from planner.place.recompute import copied
from planner.runtime.ort import make_session, tensor_specs
from planner.runtime.tensors import read_tensors
from planner.spec.manifest import TensorSpec
from planner.spec.plan import Plan
from planner.spec.session import SessionSettings
from planner.spec.streaming import Recomputed
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
    """At their fullest, where all are kept."""
    sizes: Mapping[str, int]
    """Bytes of every tensor, under the workload shape that needs most."""

    def with_copies(self, chosen: Sequence[Recomputed]) -> Model:
        """The same with these tensors made again."""
        if not chosen:
            return self
        graph = copied(self.graph, chosen)
        return replace(self, proto=with_copies(self.proto, chosen), graph=graph)


def open_model(plan: Plan, part: Path, files: Files, work: Workspace) -> Model:
    """The model in the file `part`, with inputs of every shape of the workload."""
    proto, (graph,) = read(part)
    fetched, tables = streamable(proto)
    inputs, outputs = tensor_specs(make_session(part, SessionSettings()))
    sized = [build_graph(part, inputs=shape.shapes) for shape in plan.workload]
    largest = max(sized, key=peak_activation_bytes)
    sizes = {
        name: max(each.tensors[name].size_bytes for each in sized if name in each.tensors)
        for name in sized[0].tensors
    }
    return Model(
        part=part,
        proto=proto,
        graph=compact(graph, largest),
        fetched=fetched,
        tables=tables,
        settings=plan.settings,
        inputs=inputs,
        outputs=outputs,
        feeds=feeds_of(plan, files, inputs, work),
        runtime_bytes=runtime_bytes(work),
        activation_bytes=max(peak_activation_bytes(compact(g, largest)) for g in sized),
        sizes=sizes,
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
