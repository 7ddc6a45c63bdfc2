"""Plausible inputs where there is no data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.compress.base import Array
from planner.compress.ranges import index_limits
from planner.compress.samples import Samples
from planner.ir.graph import Graph
from planner.runtime import dtypes
from planner.spec.manifest import TensorSpec


def synthetic_samples(
    specs: Sequence[TensorSpec], runs: int, seed: int = 0, graph: Graph | None = None
) -> Samples:
    """Floats standard normal; integers within everything they index; what indexes none and selects
    a branch as the model compares it; masks and lengths that let everything through. Same seed,
    same samples."""
    limits = index_limits(graph) if graph else {}
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for spec in specs:
        shape = (runs, *(1 if dim is None else dim for dim in spec.shape))
        selected = graph.selectors.get(spec.name) if graph and spec.name not in limits else None
        if selected is not None:
            arrays[spec.name] = np.full(shape, selected, dtypes.numpy_dtype(spec.dtype))
            continue
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
