"""A mixed model, built, loaded once and described: all in one sandboxed call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.compress.apply import apply
from planner.compress.base import BuildSettings, Format, Range
from planner.graph.build import read_graph
from planner.ir.graph import Op
from planner.runtime.ort import NO_PREPACKING, make_session
from planner.spec.session import GraphLevel, SessionSettings


@dataclass(frozen=True, slots=True)
class Description:
    """What was made of an assignment."""

    realised: Mapping[str, Format]
    """Every operator of the model -> its format in the file."""
    nodes: tuple[Op, ...]
    """Of the file, in topological order."""
    size_bytes: int
    """Model file plus external data."""


def build_described(
    model_path: Path,
    assignment: Mapping[str, Format],
    ranges: Mapping[str, Range],
    out_path: Path,
    settings: BuildSettings,
    smoothing: Mapping[str, str],
) -> Description:
    """Builds the mixed model, and sees that ONNX Runtime loads it.

    Raises:
        InfoptError: as `apply`; ModelError also where ONNX Runtime refuses the result.
    """
    report = apply(model_path, assignment, ranges, out_path, settings, smoothing)
    make_session(
        out_path,
        SessionSettings(intra_op_threads=1, graph_level=GraphLevel.DISABLED, extra=NO_PREPACKING),
    )
    return Description(report.realised, read_graph(out_path, {}).ops, report.size_bytes)
