"""The uniform variants of a model: all operators in one format, at one graph level.

They show what ONNX Runtime makes of each format (which kernels, fused how), which is what options
are cut from, and the best of them are the baselines a plan must beat.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.compress import folding
from planner.compress.base import NATIVE, Calibration, Format
from planner.errors import DataError, EnvironmentMismatchError, InfoptError, ModelError
from planner.graph.nursery import NURSERY
from planner.ir.graph import Graph, Op, Tensor
from planner.spec.session import GraphLevel
from planner.steps.analysis import Executable
from planner.steps.bench import Bench
from planner.steps.choices import Choices, smoothing_of
from planner.steps.prepare import Prepared
from planner.steps.variant_files import build_file, described
from planner.steps.workspace import Workspace, digest

_LARGE_BYTES = 256 << 20
LEVELS = (GraphLevel.ALL, GraphLevel.EXTENDED)


@dataclass(frozen=True, slots=True)
class Variant:
    """A uniform variant at one graph level."""

    name: str
    format: Format
    level: GraphLevel
    realised: Mapping[str, Format]
    """Operator -> format really built; native ones are absent."""
    nodes: tuple[Op, ...]
    """Nodes of the built file, before ONNX Runtime optimises it."""
    executables: tuple[Executable, ...]
    """One file on the inputs of each workload shape."""
    size_bytes: int

    @property
    def executable(self) -> Executable:
        """Any of them, for what does not depend on the inputs: the file, its constants."""
        return self.executables[0]


def variants(
    prepared: Prepared, chosen_from: Choices, work: Workspace, bench: Bench
) -> list[Variant]:
    """Every uniform variant that builds and runs, native first; those that do not are noted."""
    work.reporter.stage("variants")
    _build_ahead(prepared, chosen_from, work)
    found: list[Variant] = []
    seen: set[str] = set()
    for wanted in chosen_from.formats:
        assignment = chosen_from.uniform(wanted)
        for level in LEVELS:
            variant = try_variant(prepared, chosen_from, assignment, wanted, level, work, bench)
            if variant is None:
                break
            if (mark := f"{variant.executable.key}{level}") not in seen:
                seen.add(mark)
                found.append(variant)
    NURSERY.rest()  # kernels are timed next: no other process is to hold memory meanwhile
    return found


def _build_ahead(prepared: Prepared, chosen_from: Choices, work: Workspace) -> None:
    """Builds the files that the store knows nothing of, two at a time: each is a process. Large
    ones one at a time: each holds the model and what is made of it.

    What goes wrong here goes wrong again, and is told, when the variant is made.
    """
    calibration = chosen_from.calibration
    assignments = [chosen_from.uniform(wanted) for wanted in chosen_from.formats]
    keyed = {_variant_key(prepared, calibration, each): each for each in assignments if each}
    missing = [key for key in keyed if work.store.get(key) is None]

    def build(key: str) -> dict[str, object] | None:
        with contextlib.suppress(InfoptError):
            return described(prepared, keyed[key], calibration, _file_of(key, work))
        return None

    at_once = 2 if prepared.loaded.size_bytes <= _LARGE_BYTES else 1
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        built = dict(zip(missing, pool.map(build, missing), strict=True))
    work.store.put("variant", {key: facts for key, facts in built.items() if facts is not None})


def _variant_key(
    prepared: Prepared,
    calibration: Calibration,
    assignment: Mapping[str, Format],
) -> str:
    needed = dict(sorted(calibration.ranges.items())) if assignment else {}
    smooth = sorted(smoothing_of(calibration.smoothing, assignment).items())
    also = [smooth, folding.VERSION] if smooth else []
    return digest("variant", prepared.sha256, sorted(assignment.items()), needed, *also)


def _file_of(key: str, work: Workspace) -> Path:
    return work.scratch / f"{key[:24]}.onnx"


def try_variant(
    prepared: Prepared,
    chosen_from: Choices,
    assignment: Mapping[str, Format],
    label: Format,
    level: GraphLevel,
    work: Workspace,
    bench: Bench,
) -> Variant | None:
    """The variant, or None (with a note) where it cannot be built or run."""
    try:
        made = make_variant(prepared, chosen_from.calibration, assignment, label, level, work)
        for executable in made.executables:
            bench.analysis(executable)
    except (DataError, EnvironmentMismatchError, ModelError) as error:
        if label == NATIVE:
            raise
        work.reporter.note(f"{label} is left out: {error.what}")
        return None
    return made


def make_variant(
    prepared: Prepared,
    calibration: Calibration,
    assignment: Mapping[str, Format],
    label: str,
    level: GraphLevel,
    work: Workspace,
) -> Variant:
    """The model with this assignment; built now only if the store does not know it yet."""
    key = _variant_key(prepared, calibration, assignment)
    path = _file_of(key, work)

    def build() -> Path:
        if not assignment:
            return prepared.model_path
        if not path.exists():
            build_file(prepared, assignment, calibration, path)
        return path

    payload = work.once("variant", key, lambda: described(prepared, assignment, calibration, path))
    return Variant(
        name=f"{label}-{level.value}",
        format=Format(label) if label in set(Format) else NATIVE,
        level=level,
        realised={op: Format(form) for op, form in payload["realised"].items()},
        nodes=tuple(
            Op(name, kind, domain, tuple(reads), tuple(makes))
            for name, kind, domain, reads, makes in payload["nodes"]
        ),
        executables=tuple(
            Executable(
                key, level.value, shape.feeds_path, shape.feeds_digest, build, prepared.sha256
            )
            for shape in prepared.shapes
        ),
        size_bytes=payload["size_bytes"],
    )


def observed(prepared: Prepared, found: Sequence[Variant], bench: Bench) -> tuple[Graph, ...]:
    """The graph of each workload shape, with sizes filled in that only a run could tell."""
    native = next(variant for variant in found if not variant.realised)
    pairs = zip(prepared.shapes, native.executables, strict=True)
    return tuple(_filled(shape.graph, bench.analysis(on).tensors) for shape, on in pairs)


def _filled(graph: Graph, seen: Mapping[str, tuple[str, tuple[int, ...]]]) -> Graph:
    filled = dict(graph.tensors)
    for name, (dtype, shape) in seen.items():
        known = filled.get(name)
        if known is None or known.shape is not None:
            continue
        filled[name] = Tensor(name, dtype, shape, size_bytes_of(dtype, shape))
    return Graph(graph.ops, filled, graph.inputs, graph.outputs)


def size_bytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor; strings count as pointers."""
    item = 8 if dtype == "object" else np.dtype(dtype).itemsize
    return math.prod(shape) * item
