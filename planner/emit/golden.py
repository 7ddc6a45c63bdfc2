"""Golden inputs and outputs: what an engine must still answer on any machine that runs it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from planner.runtime.compare import flatten
from planner.runtime.tensors import write_tensors
from planner.spec.manifest import GoldenCheck

FOLDER = "golden"
MAX_NMSE = 1e-6
"""Against the engine's own outputs: covers rounding that differs between CPUs and thread counts,
a thousandth of the error in an answer; an altered weight is far beyond it."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One workload shape's inputs with the engine's and the unchanged model's answers."""

    shape: str
    """Name of the workload shape."""
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    """Of the engine."""
    reference: Mapping[str, Any]
    """Of the unchanged model."""
    max_reference_nmse: float | None
    max_nmse: float = MAX_NMSE
    skipped: tuple[str, ...] = ()
    """Outputs that are random by the model's own design."""


def write_goldens(directory: Path, goldens: Iterable[Golden]) -> tuple[GoldenCheck, ...]:
    """Write `golden/<shape>.{inputs,outputs,reference}.npz` below an engine directory.

    Names that differ only in signs a file name cannot have are numbered.
    """
    folder = directory / FOLDER
    folder.mkdir()
    checks: dict[str, GoldenCheck] = {}
    for golden in goldens:
        stem = _file_stem(golden.shape)
        free = next(name for name in _numbered(stem) if name not in checks)
        checks[free] = _write(directory, f"{FOLDER}/{free}", golden)
    return tuple(checks.values())


def _write(directory: Path, stem: str, golden: Golden) -> GoldenCheck:
    parts = {
        f"{stem}.inputs.npz": golden.inputs,
        f"{stem}.outputs.npz": golden.outputs,
        f"{stem}.reference.npz": golden.reference,
    }
    for file, values in parts.items():
        kept = {name: value for name, value in values.items() if name not in golden.skipped}
        arrays = [flatten(name, value) for name, value in kept.items()]
        write_tensors(
            directory / file, {name: array for part in arrays for name, array in part.items()}
        )
    inputs, outputs, reference = parts
    return GoldenCheck(
        shape=golden.shape,
        inputs=inputs,
        outputs=outputs,
        reference=reference,
        max_nmse=golden.max_nmse,
        max_reference_nmse=golden.max_reference_nmse,
        skipped=golden.skipped,
    )


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    yield from (f"{stem}-{number}" for number in count(2))


def _file_stem(shape: str) -> str:
    """A shape's name with everything but letters, digits, `-` and `_` replaced."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", shape)[:100] or "default"
