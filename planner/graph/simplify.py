"""Simplifies a bound model, and keeps it as it was wherever that does not provably go well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from planner.errors import InfoptError
from planner.graph.draws import drawn_outputs
from planner.graph.equality import (
    MAX_NMSE,
    Comparison,
    Feeds,
    Run,
    compare,
    run_optimised,
    run_with_onnxruntime,
)
from planner.graph.model import BoundModel
from planner.graph.sandbox import Bounds, LimitError, Sandbox
from planner.graph.slim import EFFORTS, Effort, slim
from planner.units import format_size

_MIN_GROWTH_BYTES = 2**20
_MAX_GROWTH = 0.1


@dataclass(frozen=True, slots=True)
class SimplifyReport:
    """Which file to go on with, and why."""

    path: Path
    """The simplified model, or the bound one where it was kept."""
    is_simplified: bool
    reason: str
    """What simplification did, or why the bound model was kept."""
    nmse: Mapping[str, float] = field(default_factory=dict)
    """Per compared output: simplified against bound."""
    random_outputs: tuple[str, ...] = ()
    """Outputs that are drawn at random, as the graph tells, or differ from run to run."""
    has_run: bool = False
    """Whether the bound model was seen to run."""


def simplify(
    bound: BoundModel,
    samples: Sequence[Feeds],
    out_path: Path,
    *,
    limits: Bounds | None = None,
    run: Run = run_with_onnxruntime,
) -> SimplifyReport:
    """Simplifies `bound` into `out_path`, runs both on every sample, keeps what is proved equal.

    `out_path` must be another file in the folder of `bound`: they share a weight file. Whatever a
    model or a simplifier does is no error: the bound model is always an answer.
    """
    if out_path.parent.resolve() != bound.path.parent.resolve() or out_path == bound.path:
        raise ValueError("simplify into another file in the folder of the bound model")
    bounds = (limits or Bounds()).for_size(bound.size_bytes)
    report = _kept(bound, "nothing was tried")
    drawn = _drawn(bound, bounds)
    for effort in EFFORTS:
        report, is_final = _attempt(bound, samples, out_path, bounds, run, effort, drawn)
        if is_final:
            break
    if not report.is_simplified:
        out_path.unlink(missing_ok=True)
    return replace(report, random_outputs=tuple(dict.fromkeys((*drawn, *report.random_outputs))))


def _drawn(bound: BoundModel, bounds: Bounds) -> tuple[str, ...]:
    """Outputs that the graph draws at random; none where it cannot be read within the bounds."""
    try:
        found: tuple[str, ...] = Sandbox("looking for draws", str(bound.path), bounds).call(
            drawn_outputs, bound.path
        )
    except InfoptError:
        return ()
    return found


def _kept(
    bound: BoundModel, reason: str, random: tuple[str, ...] = (), *, has_run: bool = False
) -> SimplifyReport:
    return SimplifyReport(
        bound.path, False, f"kept as it was: {reason}", random_outputs=random, has_run=has_run
    )


def _attempt(
    bound: BoundModel,
    samples: Sequence[Feeds],
    out_path: Path,
    bounds: Bounds,
    run: Run,
    effort: Effort,
    drawn: tuple[str, ...],
) -> tuple[SimplifyReport, bool]:
    """The outcome of one effort, and whether a smaller one need not be tried."""
    where = str(bound.path)
    try:
        ops = Sandbox("simplifying", where, bounds).call(
            slim, bound.path, out_path, effort, bound.shapes
        )
        grown = _growth(bound.path, out_path)
        if grown:
            return _kept(bound, grown), False
        checking = Sandbox("comparing the simplified model", where, bounds)
        found = checking.call(
            compare, bound.path, out_path, samples, run, MAX_NMSE, drawn, run_optimised
        )
    except LimitError as error:
        return _kept(bound, error.what), True
    except InfoptError as error:
        return _kept(bound, error.what), False
    return _verdict(bound, out_path, found, ops)


def _verdict(
    bound: BoundModel, out_path: Path, found: Comparison, ops: int
) -> tuple[SimplifyReport, bool]:
    if found.failure is not None:
        return _kept(bound, f"it does not run here: {found.failure}"), True
    if found.differing:
        worst = max(found.differing, key=lambda name: found.nmse[name])
        reason = f"output {worst!r} changes by NMSE {found.nmse[worst]:.2g}"
        return _kept(bound, reason, found.random, has_run=True), False
    reason = (
        f"{ops} operators; outputs equal within NMSE {max(found.nmse.values(), default=0.0):.2g}"
    )
    return SimplifyReport(out_path, True, reason, found.nmse, found.random, has_run=True), True


def _growth(before: Path, after: Path) -> str | None:
    """Why the simplified file is too large, if it is."""
    old, new = before.stat().st_size, after.stat().st_size
    if new <= old + max(_MAX_GROWTH * old, _MIN_GROWTH_BYTES):
        return None
    return f"the file would grow from {format_size(old)} to {format_size(new)}"
