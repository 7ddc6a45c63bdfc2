"""Data files where one plan serves several sets of input shapes.

    ids                       samples of every shape that they fit
    long/ids, long/labels     samples of the shape called `long` alone

An array has one shape, so a file without prefixes holds samples of one length; where shapes differ
in the batch only, the same samples fit all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from planner.compress.base import Array
from planner.compress.sample_files import calibration_from, evaluation_from
from planner.compress.samples import Evaluation, Samples
from planner.errors import DataError
from planner.runtime.tensors import read_tensors
from planner.spec.manifest import TensorSpec

Specs = Mapping[str, Sequence[TensorSpec]]
"""Inputs by name of the shape, in the order of the workload."""


def calibrations(path: Path, specs: Specs) -> dict[str, Samples]:
    """The calibration part of a file, for each shape that it fits.

    Raises:
        DataError: unreadable file, or it fits none; the first shape's reason.
    """
    arrays = read_tensors(path)
    found: dict[str, Samples] = {}
    refusals: list[DataError] = []
    for shape, own in specs.items():
        try:
            found[shape] = calibration_from(_seen_by(shape, own, arrays), own, str(path))
        except DataError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return found


def evaluations(path: Path, specs: Specs) -> list[Evaluation]:
    """Labelled samples, each counted once: of every shape that has its own in the file; where none
    has, all of them in the first shape that they fit.

    Raises:
        DataError: unreadable file, samples of a shape that do not fit it, or they fit none.
    """
    arrays = read_tensors(path)
    where = str(path)
    having = [shape for shape, own in specs.items() if _own(shape, own, arrays)]
    if having:
        seen = {shape: _seen_by(shape, specs[shape], arrays) for shape in having}
        return [evaluation_from(seen[shape], specs[shape], where) for shape in having]
    refusals: list[DataError] = []
    for own in specs.values():
        try:
            return [evaluation_from(arrays, own, where)]
        except DataError as error:
            refusals.append(error)
    raise refusals[0]


def _seen_by(
    shape: str, specs: Sequence[TensorSpec], arrays: Mapping[str, Array]
) -> dict[str, Array]:
    return {**arrays, **_own(shape, specs, arrays)}


def _own(shape: str, specs: Sequence[TensorSpec], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """What is named `<shape>/<name>`, by `<name>`; unless that is how an input is called."""
    inputs, prefix = {spec.name for spec in specs}, f"{shape}/"
    return {
        key.removeprefix(prefix): array
        for key, array in arrays.items()
        if key.startswith(prefix) and key not in inputs
    }
