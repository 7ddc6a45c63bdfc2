"""Calibration and evaluation data of a file: named arrays, checked against the model.

A file is an `.npz` of arrays by input name, cut as `planner.compress.cutting` says. Names starting
with `calib_` are the calibration part where one file holds both parts.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from planner.compress.base import Array
from planner.compress.cutting import samples_from
from planner.compress.samples import Evaluation, Samples
from planner.errors import DataError
from planner.runtime.tensors import read_tensors
from planner.spec.manifest import TensorSpec

CALIBRATION_PREFIX = "calib_"
LABELS = ("labels", "label", "y", "targets", "target", "score", "scores")
"""Names under which labels are looked for, in this order."""


def load_calibration(path: Path, specs: Sequence[TensorSpec]) -> Samples:
    """The calibration part of a file: `calib_<input>` where present, else `<input>`.

    Raises:
        DataError: unreadable file, missing input, wrong shape or type; names the nearest key.
    """
    return calibration_from(read_tensors(path), specs, str(path))


def calibration_from(
    arrays: Mapping[str, Array], specs: Sequence[TensorSpec], where: str
) -> Samples:
    """`load_calibration` of arrays that were read before."""
    return samples_from(_part(arrays, specs, where, prefer_calibration=True), specs, where)


def load_evaluation(path: Path, specs: Sequence[TensorSpec]) -> Evaluation:
    """Inputs and labels of a file.

    Raises:
        DataError: as `load_calibration`; no labels, or not one label per sample.
    """
    return evaluation_from(read_tensors(path), specs, str(path))


def evaluation_from(
    arrays: Mapping[str, Array], specs: Sequence[TensorSpec], where: str
) -> Evaluation:
    """`load_evaluation` of arrays that were read before."""
    part = _part(arrays, specs, where, prefer_calibration=False)
    samples = samples_from(part, specs, where)
    inputs = {spec.name for spec in specs}
    key = next((name for name in LABELS if name in arrays and name not in inputs), None)
    if key is None:
        raise DataError("no labels", where=where, fix=f"add an array named {LABELS[0]!r}")
    labels = arrays[key]
    if labels.ndim == 0 or len(labels) != samples.valid:
        raise DataError(
            f"{key!r} has {len(labels) if labels.ndim else 0} entries for {samples.valid} samples",
            where=where,
        )
    return Evaluation(samples, labels)


def _part(
    arrays: Mapping[str, Array], specs: Sequence[TensorSpec], where: str, prefer_calibration: bool
) -> dict[str, Array]:
    names = [spec.name for spec in specs]
    prefixed = [f"{CALIBRATION_PREFIX}{name}" for name in names]
    has_part = any(key in arrays for key in prefixed)
    if prefer_calibration and has_part:
        found = {n: arrays[k] for n, k in zip(names, prefixed, strict=True) if k in arrays}
        # Inputs without a calibration part of their own may be shared constants.
        found.update({n: arrays[n] for n in names if n in arrays and n not in found})
    else:
        found = {name: arrays[name] for name in names if name in arrays}
    missing = [name for name in names if name not in found]
    if missing:
        near = difflib.get_close_matches(missing[0], list(arrays), 1, 0.3)
        hint = f"rename {near[0]!r} to {missing[0]!r}" if near else f"add {missing[0]!r}"
        raise DataError(
            f"no array for the model's input {missing[0]!r}; the file has "
            f"{', '.join(map(repr, sorted(arrays))) or 'none'}",
            where=where,
            fix=hint,
        )
    return found
