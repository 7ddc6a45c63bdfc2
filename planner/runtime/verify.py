"""Does an engine answer as it did when it was built, and as the unchanged model does?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import DataError, InfoptError, VerificationError
from planner.runtime import compare
from planner.runtime.engine import Session
from planner.runtime.tensors import read_tensors
from planner.spec.manifest import GoldenCheck


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was verified: `value` must not exceed `limit` (both NMSE)."""

    name: str
    """Golden and output, e.g. `golden/default.outputs.npz: logits`."""
    is_kept: bool
    value: float
    limit: float
    detail: str
    """One sentence for people."""


def verify_outputs(session: Session) -> list[Check]:
    """Run every golden input and compare with the stored outputs and with the unchanged model's.

    A run that fails is a broken check, not an exception.

    Raises:
        VerificationError: a golden file cannot be read.
    """
    return [check for golden in session.manifest.golden for check in _verify(session, golden)]


def _verify(session: Session, golden: GoldenCheck) -> list[Check]:
    feeds = _read(session.directory / golden.inputs)
    try:
        outputs = session.run(feeds)
    except InfoptError as error:
        return [Check(golden.inputs, False, math.inf, golden.max_nmse, f"run failed: {error.text}")]
    found = {
        part: array
        for name, value in outputs.items()
        if name not in golden.skipped
        for part, array in compare.flatten(name, value).items()
    }
    checks = _compare(session, golden.outputs, found, golden.max_nmse)
    if golden.max_reference_nmse is None:
        return checks
    return checks + _compare(session, golden.reference, found, golden.max_reference_nmse)


def _compare(session: Session, file: str, found: Mapping[str, Any], limit: float) -> list[Check]:
    expected = _read(session.directory / file)
    kept = {name: array for name, array in expected.items() if name in found}
    missing = [name for name in found if name not in expected]
    if missing or not found.keys() <= expected.keys():
        detail = f"{file} lacks {', '.join(missing)}"
        return [Check(file, False, math.inf, limit, detail)]
    return [
        Check(
            name=f"{file}: {name}",
            is_kept=value <= limit,
            value=value,
            limit=limit,
            detail=f"output {name!r}: NMSE {value:.3g}, limit {limit:.3g}",
        )
        for name, value in compare.nmse_per_output(kept, found).items()
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_tensors(path))
    except DataError as error:
        raise VerificationError(error.what, where=error.where) from None
