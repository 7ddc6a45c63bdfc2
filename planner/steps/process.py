"""Memory on this machine's CPU: that of the whole process, for every plan alike.

Counted before anything is built: the interpreter with ONNX Runtime and a smallest session, weights
that stay, activations at their fullest, weights that are there for a while. Measured where a limit
was given: the peak of a process that loads the engine and runs it on every shape, which also holds
what loading takes for a moment, what allocators keep, and pages of tables whose rows are read.
On a GPU, and on devices that are not here, memory is that of the device.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from planner.emit.blueprint import Blueprint, Part, Talk
from planner.emit.engine import write_engine
from planner.profiling.context import runtime_size_bytes
from planner.runtime.fingerprint import this_environment
from planner.runtime.streaming.footprint import peak_size_bytes
from planner.runtime.tensors import write_tensors
from planner.spec.io import sealed
from planner.spec.manifest import TensorSpec
from planner.spec.plan import Plan
from planner.steps.workspace import Workspace, digest


def runtime_bytes(work: Workspace) -> int:
    """Of a process that has loaded nothing of a model; measured once a machine."""
    key = digest("runtime bytes", this_environment().model_dump(mode="json"))
    return int(work.once("runtime", key, lambda: runtime_size_bytes(work.scratch)))


def peak_bytes(
    plan: Plan,
    parts: Sequence[Part | Talk],
    specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    feeds: Sequence[Mapping[str, Any]],
    folder: Path,
) -> int | None:
    """Most bytes of a process that runs these parts on every shape; None where this system does
    not tell.

    Args:
        specs: the model's inputs and outputs.
        feeds: inputs, per workload shape.
    """
    engine = folder / "engine"
    write_engine(
        engine,
        Blueprint(
            name="measured",
            plan=sealed(plan),
            parts=tuple(parts),
            inputs=specs[0],
            outputs=specs[1],
            goldens=(),
            environment=plan.environment,
            predicted_latency_us=plan.prediction.latency_p50_us,
        ),
    )
    files = []
    for number, values in enumerate(feeds):
        files.append(folder / f"inputs-{number}.npz")
        write_tensors(files[-1], values)
    found = peak_size_bytes(engine, *files)
    shutil.rmtree(engine)
    return found
