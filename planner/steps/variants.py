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

from planner.compress.apply import ApplyReport, apply
from planner.compress.base import NATIVE, BuildSettings, Format, Offer, Rejection
from planner.compress.calibrate import calibrate
from planner.compress.describe import Description, build_described
from planner.compress.methods import offers
from planner.compress.samples import Samples
from planner.errors import DataError, EnvironmentMismatchError, InfoptError, ModelError
from planner.graph.nursery import NURSERY
from planner.graph.sandbox import Bounds, Sandbox
from planner.ir.graph import Graph, Op, Tensor
from planner.runtime.fingerprint import has_vnni, read_cpu
from planner.spec.constraints import Constraints
from planner.spec.session import GraphLevel, SessionSettings
from planner.steps.bench import Bench, Executable
from planner.steps.prepare import Prepared
from planner.steps.workspace import Workspace, digest

CPU_FORMATS = (Format.INT8_DYNAMIC, Format.INT8_STATIC, Format.INT8_WO, Format.INT4_WO)
"""Tried where the user names none. Half precision is tried only when named: ONNX Runtime's CPU
provider casts it to fp32 around every operator."""
_NO_RANGE = "an activation becomes NaN or infinite on the calibration samples"
_LARGE_BYTES = 256 << 20
LEVELS = (GraphLevel.ALL, GraphLevel.EXTENDED)


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be chosen for every operator, and what may not, with the reason."""

    offers: tuple[Offer, ...]
    rejections: tuple[Rejection, ...]
    ranges: Mapping[str, tuple[float, float]]

    @property
    def formats(self) -> tuple[Format, ...]:
        """Formats that at least one operator may take, native first."""
        return tuple(dict.fromkeys([NATIVE, *(offer.format for offer in self.offers)]))

    def uniform(self, wanted: Format) -> dict[str, Format]:
        """Every operator that may take the format in it; pinned ones in theirs."""
        assigned: dict[str, Format] = {}
        allowed: dict[str, list[Format]] = {}
        for offer in self.offers:
            allowed.setdefault(offer.op, []).append(offer.format)
        for op, found in allowed.items():
            if wanted in found:
                assigned[op] = wanted
            elif NATIVE not in found:
                assigned[op] = found[0]
        return {op: form for op, form in assigned.items() if form != NATIVE}


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


def choices(constraints: Constraints, prepared: Prepared, work: Workspace) -> Choices:
    """What every operator may take, with the ranges that static formats need."""
    allowed = (NATIVE, *(constraints.compression.formats or CPU_FORMATS))
    answers = offers(prepared.graph, allowed, constraints.compression.pin)
    made = tuple(answer for answer in answers if isinstance(answer, Offer))
    refused = tuple(answer for answer in answers if isinstance(answer, Rejection))
    tensors = sorted({name for offer in made for name in offer.ranged_tensors})
    ranges = _ranges(prepared, tensors, work) if tensors else {}
    unranged = tuple(offer for offer in made if not ranges.keys() >= set(offer.ranged_tensors))
    if unranged:
        work.reporter.note(f"{len(unranged)} operators cannot be {Format.INT8_STATIC}: {_NO_RANGE}")
    kept = tuple(offer for offer in made if offer not in unranged)
    refused += tuple(Rejection(offer.op, offer.format, _NO_RANGE) for offer in unranged)
    return Choices(_all_offered(prepared.graph, kept), refused, ranges)


def _all_offered(graph: Graph, made: Sequence[Offer]) -> tuple[Offer, ...]:
    """The offers; an operator left without any stays native."""
    offered = {offer.op for offer in made}
    return (*made, *(Offer(op.name, NATIVE) for op in graph.ops if op.name not in offered))


def _ranges(
    prepared: Prepared, tensors: Sequence[str], work: Workspace
) -> dict[str, tuple[float, float]]:
    """Ranges that hold for the samples of every shape."""
    work.reporter.stage("calibrate")
    found = [_ranges_on(samples, prepared, tensors, work) for samples in prepared.samples]
    return {
        name: (min(each[name][0] for each in found), max(each[name][1] for each in found))
        for name in found[0]
    }


def _ranges_on(
    samples: Samples, prepared: Prepared, tensors: Sequence[str], work: Workspace
) -> dict[str, tuple[float, float]]:
    key = digest("ranges", prepared.sha256, samples.digest, tensors)
    bounds = Bounds().for_size(prepared.loaded.size_bytes)
    sandbox = Sandbox("calibrating activations", str(prepared.loaded.path), bounds)

    def compute() -> dict[str, list[float]]:
        found = sandbox.call(
            calibrate,
            prepared.model_path,
            prepared.graph,
            tensors,
            samples,
            SessionSettings(),
        )
        return {name: list(ends) for name, ends in found.items()}

    payload = work.once("ranges", key, compute)
    return {name: (low, high) for name, (low, high) in payload.items()}


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
    ranges = chosen_from.ranges
    assignments = [chosen_from.uniform(wanted) for wanted in chosen_from.formats]
    keyed = {_variant_key(prepared, ranges, each): each for each in assignments if each}
    missing = [key for key in keyed if work.store.get(key) is None]

    def build(key: str) -> dict[str, object] | None:
        with contextlib.suppress(InfoptError):
            return _described(prepared, keyed[key], ranges, _file_of(key, work))
        return None

    at_once = 2 if prepared.loaded.size_bytes <= _LARGE_BYTES else 1
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        built = dict(zip(missing, pool.map(build, missing), strict=True))
    work.store.put("variant", {key: facts for key, facts in built.items() if facts is not None})


def _variant_key(
    prepared: Prepared,
    ranges: Mapping[str, tuple[float, float]],
    assignment: Mapping[str, Format],
) -> str:
    needed = {name: ranges[name] for name in sorted(ranges)} if assignment else {}
    return digest("variant", prepared.sha256, sorted(assignment.items()), needed)


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
        made = make_variant(prepared, chosen_from.ranges, assignment, label, level, work)
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
    ranges: Mapping[str, tuple[float, float]],
    assignment: Mapping[str, Format],
    label: str,
    level: GraphLevel,
    work: Workspace,
) -> Variant:
    """The model with this assignment; built now only if the store does not know it yet."""
    key = _variant_key(prepared, ranges, assignment)
    path = _file_of(key, work)

    def build() -> Path:
        if not assignment:
            return prepared.model_path
        if not path.exists():
            build_file(prepared, assignment, ranges, path)
        return path

    payload = work.once("variant", key, lambda: _described(prepared, assignment, ranges, path))
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


def build_file(
    prepared: Prepared,
    assignment: Mapping[str, Format],
    ranges: Mapping[str, tuple[float, float]],
    path: Path,
) -> ApplyReport:
    """Builds the mixed model of a prepared one."""
    return build_file_from(_source(prepared), assignment, ranges, path)


def _source(prepared: Prepared) -> Source:
    loaded = prepared.loaded
    return Source(prepared.model_path, str(loaded.path), loaded.size_bytes)


@dataclass(frozen=True, slots=True)
class Source:
    """What a mixed model is built from."""

    path: Path
    where: str
    """What the user knows it by."""
    size_bytes: int
    """Of the user's model, with its external data."""

    @property
    def sandbox(self) -> Sandbox:
        """Where it is built."""
        bounds = Bounds(wall_s=180.0).for_size(self.size_bytes)
        return Sandbox("building the compressed model", self.where, bounds)


def build_file_from(
    source: Source,
    assignment: Mapping[str, Format],
    ranges: Mapping[str, tuple[float, float]],
    path: Path,
) -> ApplyReport:
    """Builds a mixed model in a process of its own, so that its memory is given back."""
    return source.sandbox.call(
        apply, source.path, dict(assignment), dict(ranges), path, BUILD_SETTINGS
    )


BUILD_SETTINGS = BuildSettings(reduce_range=not has_vnni(read_cpu()))


def _described(
    prepared: Prepared,
    assignment: Mapping[str, Format],
    ranges: Mapping[str, tuple[float, float]],
    path: Path,
) -> dict[str, object]:
    """What the store keeps of a variant; its file is built, in a process of its own."""
    if not assignment:
        size_bytes = prepared.model_path.stat().st_size
        return _facts(Description({}, prepared.graph.ops, size_bytes))
    return _facts(
        _source(prepared).sandbox.call(
            build_described,
            prepared.model_path,
            dict(assignment),
            dict(ranges),
            path,
            BUILD_SETTINGS,
        )
    )


def _facts(found: Description) -> dict[str, object]:
    return {
        "realised": {op: str(form) for op, form in found.realised.items() if form != NATIVE},
        "nodes": [[op.name, op.op_type, op.domain, op.inputs, op.outputs] for op in found.nodes],
        "size_bytes": found.size_bytes,
    }


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
