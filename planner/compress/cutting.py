"""Arrays by input name, cut into a model's runs. An array fits an input of shape [B, ...] as

[N, ...]       N samples along the batch axis, cut into runs of B (the last one padded)
[R, B, ...]    R whole runs, stacked
[B, ...]       one run, or, beside inputs with more runs, the same value in every run
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.compress.base import Array
from planner.compress.samples import Samples
from planner.errors import DataError
from planner.runtime import dtypes
from planner.spec.manifest import TensorSpec


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
