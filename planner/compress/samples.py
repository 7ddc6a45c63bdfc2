"""Calibration and evaluation data: named arrays, checked against the model and cut into its runs.

A file is an `.npz` of arrays by input name. An array fits an input of shape [B, ...] as

    [N, ...]       N samples along the batch axis, cut into runs of B (the last one padded)
    [R, B, ...]    R whole runs, stacked
    [B, ...]       one run, or, beside inputs with more runs, the same value in every run

Names starting with `calib_` are the calibration part where one file holds both parts.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.compress.base import Array
from planner.errors import DataError
from planner.ir.graph import Graph
from planner.runtime import dtypes
from planner.runtime.tensors import read_tensors
from planner.spec.manifest import TensorSpec

CALIBRATION_PREFIX = "calib_"
LABELS = ("labels", "label", "y", "targets", "target", "score", "scores")
"""Names under which labels are looked for, in this order."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs of consecutive runs of one model."""

    arrays: Mapping[str, Array]
    """By input name, [runs, *static shape]; a value shared by all runs is [1, *static shape]."""
    runs: int
    valid: int
    """Samples that are real: the rest of the last run is padding."""
    per_run: int
    """Samples in one run: the batch, or 1 where runs are whole samples."""
    is_synthetic: bool = False

    def feeds(self, run: int) -> dict[str, Array]:
        """The model's inputs of one run (views)."""
        return {
            name: np.asarray(value[run if len(value) > 1 else 0])
            for name, value in self.arrays.items()
        }

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self.feeds(run) for run in range(self.runs))

    def first(self, runs: int) -> Samples:
        """At most this many runs, spread evenly over all of them."""
        if runs >= self.runs:
            return self
        chosen = np.linspace(0, self.runs - 1, runs).round().astype(int)
        padding = self.runs * self.per_run - self.valid
        kept = runs * self.per_run - (padding if chosen[-1] == self.runs - 1 else 0)
        arrays = {k: v[chosen] if len(v) > 1 else v for k, v in self.arrays.items()}
        return Samples(arrays, runs, kept, self.per_run, self.is_synthetic)

    def whole_runs(self) -> Samples:
        """Without a padded last run, where there is another: padding would count twice."""
        if self.runs * self.per_run == self.valid or self.runs == 1:
            return self
        runs = self.runs - 1
        arrays = {k: v[:runs] if len(v) > 1 else v for k, v in self.arrays.items()}
        return Samples(arrays, runs, runs * self.per_run, self.per_run, self.is_synthetic)

    @property
    def digest(self) -> str:
        """SHA-256 over names, types, shapes and values."""
        total = hashlib.sha256()
        for name in sorted(self.arrays):
            value = np.ascontiguousarray(self.arrays[name])
            total.update(f"{name}\0{value.dtype.str}\0{value.shape}\0".encode())
            if value.dtype == object:
                total.update(repr(value.tolist()).encode())
            else:
                total.update(dtypes.as_bits(value).data)
        return total.hexdigest()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Labelled samples."""

    samples: Samples
    labels: Array
    """First axis counts the valid samples."""


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


def samples_from(
    arrays: Mapping[str, Array], specs: Sequence[TensorSpec], where: str = "samples"
) -> Samples:
    """Arrays by input name, cut into runs.

    Raises:
        DataError: an array that fits its input neither as samples nor as runs, lossy types,
            NaN or infinite values, or inputs that disagree on the number of samples.
    """
    typed = {spec.name: _typed(arrays[spec.name], spec, where) for spec in specs}
    if all(_matches(typed[spec.name].shape, _wanted(spec)) for spec in specs):
        return _one_run(typed, specs)
    cut = {spec.name: _fit(typed[spec.name], spec, where) for spec in specs}
    varying = {name: part for name, part in cut.items() if part.valid != 1}
    counts = {part.valid // part.divisor for part in varying.values()} or {1}
    if len(counts) > 1:
        listed = ", ".join(f"{name!r} {part.valid}" for name, part in varying.items())
        raise DataError(f"inputs disagree on the number of samples: {listed}", where=where)
    lead = next(iter(varying.values()), None)
    per_run = lead.per_run if lead else 1
    runs = max((len(part.array) for part in cut.values()), default=1)
    arrays_by_name = {name: part.array for name, part in cut.items()}
    return Samples(arrays_by_name, runs, lead.valid if lead else 1, per_run)


def _one_run(arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> Samples:
    """Arrays in exactly the model's shapes are the inputs of one run, whatever their first axes
    count (a graph's edges and its nodes, say)."""
    batches = {spec.shape[0] or 1 for spec in specs if spec.shape}
    batch = max(batches.pop(), 1) if len(batches) == 1 else 1
    return Samples({name: array[None] for name, array in arrays.items()}, 1, batch, batch)


def _wanted(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(-1 if dim is None else dim for dim in spec.shape)


@dataclass(frozen=True, slots=True)
class _Cut:
    array: Array
    """[runs, *static shape]."""
    valid: int
    per_run: int
    divisor: int = 1


def _fit(array: Array, spec: TensorSpec, where: str) -> _Cut:
    shape = _wanted(spec)
    if _matches(array.shape, shape):
        batch = shape[0] if shape and shape[0] > 1 else 1
        return _Cut(array[None], batch if batch > 1 else 1, batch)
    if array.ndim and array.shape[0] == 0:
        raise DataError(f"{spec.name!r} has no samples", where=where)
    if array.ndim == len(shape) + 1 and _matches(array.shape[1:], shape):
        batch = max(shape[0], 1) if shape else 1
        return _Cut(array, array.shape[0] * batch, batch)
    if shape and array.ndim == len(shape) and _matches(array.shape[1:], shape[1:]):
        return _cut_batches(array, max(shape[0], 1))
    expected = ["N", *spec.shape[1:]] if spec.shape else ["N"]
    raise DataError(
        f"{spec.name!r} has shape {list(array.shape)}; the model's input is {list(spec.shape)}",
        where=where,
        fix=f"give [{', '.join(map(str, expected))}] with N samples",
    )


def _matches(found: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(found) == len(wanted) and all(
        b in (-1, a) for a, b in zip(found, wanted, strict=True)
    )


def _cut_batches(array: Array, batch: int) -> _Cut:
    count = len(array)
    runs = math.ceil(count / batch)
    padding = runs * batch - count
    if padding:
        array = np.concatenate([array, np.repeat(array[-1:], padding, axis=0)])
    return _Cut(array.reshape(runs, batch, *array.shape[1:]), count, batch)


def _typed(array: Array, spec: TensorSpec, where: str) -> Array:
    wanted = dtypes.numpy_dtype(spec.dtype)
    whole = array.dtype.kind in "iub"
    if not np.can_cast(array.dtype, wanted, "same_kind") and not (whole and wanted.kind in "iub"):
        raise DataError(
            f"{spec.name!r} is {array.dtype}; the model's input is {spec.dtype}",
            where=where,
            fix=f"store it as {spec.dtype}",
        )
    typed = array.astype(wanted, copy=False)
    if whole and not np.array_equal(typed, array):
        raise DataError(f"{spec.name!r} has values that {spec.dtype} cannot hold", where=where)
    if typed.dtype.kind == "f" and np.isnan(typed).any():  # infinities are what masks are made of
        raise DataError(f"{spec.name!r} has NaN values", where=where, fix="leave these samples out")
    return typed


def synthetic_samples(
    specs: Sequence[TensorSpec], runs: int, seed: int = 0, graph: Graph | None = None
) -> Samples:
    """Plausible inputs where there is no data: floats standard normal; integers within every table
    they index; masks and lengths that let everything through. Same seed, same samples."""
    limits = _index_limits(graph) if graph else {}
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for spec in specs:
        shape = (runs, *(1 if dim is None else dim for dim in spec.shape))
        arrays[spec.name] = _synthetic(spec, shape, limits.get(spec.name), generator)
    batch = next((spec.shape[0] for spec in specs if spec.shape and spec.shape[0]), 1) or 1
    return Samples(arrays, runs, runs * batch, batch, is_synthetic=True)


def _synthetic(
    spec: TensorSpec, shape: tuple[int, ...], limit: int | None, generator: np.random.Generator
) -> Array:
    kind = dtypes.numpy_dtype(spec.dtype)
    if kind.kind == "O":
        return np.full(shape, "text", dtype=object)
    if kind.kind == "b":
        return np.ones(shape, kind)
    if kind.kind in "iu" and limit is not None:
        return generator.integers(0, limit, shape).astype(kind)
    if kind.kind in "iu":
        return np.ones(shape, kind)
    if kind.kind == "c":
        return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(
            kind
        )
    return generator.standard_normal(shape).astype(kind)


_KEEPS_INDEX = ("Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Transpose")
_PASSES_PART = (*_KEEPS_INDEX, "Slice", "Gather", "Split", "Clip")


def _index_limits(graph: Graph) -> dict[str, int]:
    """Input name -> rows of the smallest table that it indexes, followed through casts and cuts."""
    limits: dict[str, int] = {}
    origin = {name: name for name in graph.inputs}
    for op in graph.ops:
        if op.kind == "Gather" and op.inputs[1] in origin:
            rows = _rows(graph, op.inputs[0])
            source = origin[op.inputs[1]]
            if rows:
                limits[source] = min(rows, limits.get(source, rows))
        if op.kind in _PASSES_PART and op.inputs[0] in origin:
            origin.update(dict.fromkeys(op.outputs, origin[op.inputs[0]]))
    return limits


def _rows(graph: Graph, table: str) -> int | None:
    tensor = graph.tensors.get(table)
    if tensor is None or not tensor.shape or not tensor.is_constant:
        return None
    return tensor.shape[0]
