"""Plausible inputs where there is no data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.compress.base import Array
from planner.compress.samples import Samples
from planner.ir.graph import Graph
from planner.runtime import dtypes
from planner.spec.manifest import TensorSpec


def synthetic_samples(
    specs: Sequence[TensorSpec], runs: int, seed: int = 0, graph: Graph | None = None
) -> Samples:
    """Floats standard normal; integers within every table they index; what indexes none and selects
    a branch as the model compares it; masks and lengths that let everything through. Same seed,
    same samples."""
    limits = _index_limits(graph) if graph else {}
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
