"""Mixed models as files, each built in a process of its own, so that its memory is given back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.compress.apply import ApplyReport, apply
from planner.compress.base import NATIVE, BuildSettings, Calibration, Format
from planner.compress.describe import Description, build_described
from planner.graph.sandbox import Bounds, Sandbox
from planner.runtime.fingerprint import has_vnni, read_cpu
from planner.steps.prepare import Prepared

BUILD_SETTINGS = BuildSettings(reduce_range=not has_vnni(read_cpu()))


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


def source_of(prepared: Prepared) -> Source:
    """Of a prepared model."""
    loaded = prepared.loaded
    return Source(prepared.model_path, str(loaded.path), loaded.size_bytes)


def build_file(
    prepared: Prepared,
    assignment: Mapping[str, Format],
    calibration: Calibration,
    path: Path,
) -> ApplyReport:
    """Builds the mixed model of a prepared one."""
    return build_file_from(source_of(prepared), assignment, calibration, path)


def build_file_from(
    source: Source,
    assignment: Mapping[str, Format],
    calibration: Calibration,
    path: Path,
) -> ApplyReport:
    """Builds a mixed model in a process of its own, so that its memory is given back."""
    return source.sandbox.call(
        apply,
        source.path,
        dict(assignment),
        dict(calibration.ranges),
        path,
        BUILD_SETTINGS,
        dict(calibration.smoothing),
    )


def described(
    prepared: Prepared,
    assignment: Mapping[str, Format],
    calibration: Calibration,
    path: Path,
) -> dict[str, object]:
    """What the store keeps of a variant; its file is built, in a process of its own."""
    if not assignment:
        size_bytes = prepared.model_path.stat().st_size
        return _facts(Description({}, prepared.graph.ops, size_bytes))
    return _facts(
        source_of(prepared).sandbox.call(
            build_described,
            prepared.model_path,
            dict(assignment),
            dict(calibration.ranges),
            path,
            BUILD_SETTINGS,
            dict(calibration.smoothing),
        )
    )


def _facts(found: Description) -> dict[str, object]:
    return {
        "realised": {op: str(form) for op, form in found.realised.items() if form != NATIVE},
        "nodes": [[op.name, op.op_type, op.domain, op.inputs, op.outputs] for op in found.nodes],
        "size_bytes": found.size_bytes,
    }
