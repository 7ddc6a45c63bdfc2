"""A model without its weights: operators, shapes for every workload entry, weights by name, blocks.

    skeleton = load_skeleton(path, {"prefill": {...}, "decode": {...}})

External data may be absent; nothing here reads it. What needs values is skipped and said
(`Skeleton.notes`). The operators are the same for all workload entries, only sizes differ.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto

from planner.errors import ModelError
from planner.graph import (
    absent,
    container,
    functions,
    inspection,
    judge,
    names,
    normal,
    proto,
    structure,
    weights,
)
from planner.graph.bind import Shapes, complete_shapes
from planner.graph.blocks import Repeat, find_repeats
from planner.graph.model import LoadedModel
from planner.graph.propagate import NOTHING, Fact
from planner.graph.reading import Attributes, Reading
from planner.graph.sandbox import Bounds, Sandbox
from planner.ir.graph import Graph, Op

BOUNDS = Bounds(wall_s=90.0, memory_size_bytes=4 * 2**30, memory_factor=40.0, wall_s_per_gib=9000.0)
"""A file without weights is all operators: each byte costs more than that of a weight."""
MOST_VALUES = 64
"""Elements of integer operands whose values are kept: no operator has more axes."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A stored tensor that operators read."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    readers: tuple[str, ...]
    """Operators that read it; more than one: it is shared."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What is known of a model without its weights."""

    loaded: LoadedModel
    """As the file declares it; its digest is that of the file alone."""
    graphs: Mapping[str, Graph]
    """Workload entry -> its graph. All have the same `ops`; shapes differ."""
    weights: tuple[Weight, ...]
    attributes: Mapping[str, Attributes]
    """Operator -> its attributes."""
    repeats: tuple[Repeat, ...]
    """Blocks that occur again, largest share of the operators first."""
    notes: tuple[str, ...]
    values: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Small integer operands that are the same under every workload entry: axes, steps, pads."""

    @property
    def graph(self) -> Graph:
        """That of the first workload entry."""
        return next(iter(self.graphs.values()))


def load_skeleton(
    path: Path, workload: Mapping[str, Shapes], *, limits: Bounds | None = None
) -> Skeleton:
    """Reads the model at `path` for every entry of the workload (name -> shapes of inputs).

    Raises:
        ModelError: damaged, hostile, unbound; operands that do not fit.
    """
    container.check_path(path)
    bounds = (limits or BOUNDS).for_size(path.stat().st_size)
    sandbox = Sandbox("reading the model without its weights", str(path), bounds)
    try:
        return sandbox.call(_read_apart, path, {n: dict(s) for n, s in workload.items()})
    except ModelError as error:
        raise ModelError(error.what, where=error.where or str(path), fix=error.fix) from None


def _read_apart(path: Path, workload: Mapping[str, Shapes]) -> Skeleton:
    """`read_skeleton` in a process that ends with it: no garbage is looked for among millions of
    objects that all stay."""
    gc.disable()
    return read_skeleton(path, workload)


def read_skeleton(path: Path, workload: Mapping[str, Shapes]) -> Skeleton:
    """`load_skeleton` in this process."""
    model, loaded = _checked(path)
    bound = {name: complete_shapes(loaded, shapes) for name, shapes in workload.items()}
    kept = frozenset(
        port.name for port in loaded.defaults if any(port.name in s for s in bound.values())
    )
    model = _normalised(model, kept)
    read = Reading(model, kept)
    runs = {name: read.run(shapes) for name, shapes in bound.items()}
    stripped = read.strip(tuple(runs.values()))
    ops = read.ops(stripped)
    graphs = {name: read.graph(ops, stripped, run) for name, run in runs.items()}
    marks = read.marks(ops, stripped, tuple(graphs.values()))
    return Skeleton(
        loaded=loaded,
        graphs=graphs,
        weights=_weights(next(iter(graphs.values()))),
        attributes=read.attributes(ops, stripped),
        repeats=find_repeats(next(iter(graphs.values())), marks),
        notes=(*loaded.notes, *read.notes(stripped)),
        values=_small_values(ops, tuple(runs.values())),
    )


def _small_values(
    ops: tuple[Op, ...], runs: tuple[dict[str, Fact], ...]
) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name in dict.fromkeys(name for op in ops for name in op.inputs if name):
        facts = [run.get(name, NOTHING).value for run in runs]
        first = facts[0]
        if first is None or first.dtype.kind != "i" or first.size > MOST_VALUES:
            continue
        if all(value is not None and np.array_equal(value, first) for value in facts):
            found[name] = tuple(int(value) for value in first.reshape(-1))
    return found


def _checked(path: Path) -> tuple[ModelProto, LoadedModel]:
    model = container.parse(path)
    container.check_versions(model, inspection.MIN_IR_VERSION)
    absent.check_tensors(model, path.parent)
    notes = inspection.check_graph(model)
    unknown = judge.unknown_operators(model)
    if unknown:
        raise ModelError(unknown[0].what, fix=unknown[0].fix)
    inputs, defaults = inspection.split_inputs(model)
    loaded = LoadedModel(
        path=path,
        sha256=weights.digest(path),
        size_bytes=path.stat().st_size,
        ir_version=int(model.ir_version),
        opsets=judge.opsets(model),
        inputs=inputs,
        defaults=defaults,
        outputs=tuple(proto.port(value) for value in model.graph.output),
        op_counts=inspection.count_ops(model),
        parameters=sum(math.prod(tensor.dims) for tensor in proto.initialisers(model.graph)),
        notes=tuple(notes),
    )
    return model, loaded


def _normalised(model: ModelProto, kept: frozenset[str]) -> ModelProto:
    """Functions inlined, constants lifted, weights at one place told once, operators named."""
    model = functions.inline(model)
    del model.functions[:]
    normal.drop_defaults(model, kept)
    normal.lift_constants(model.graph)
    same = {old: new for old, new in absent.shared(model.graph).items() if old not in kept}
    if same:
        proto.rename_reads(model.graph, same)
        unique = [tensor for tensor in model.graph.initializer if tensor.name not in same]
        unique = [TensorProto.FromString(tensor.SerializeToString()) for tensor in unique]
        del model.graph.initializer[:]
        model.graph.initializer.extend(unique)
    structure.sort(model.graph)
    names.rename(model.graph)
    return model


def _weights(graph: Graph) -> tuple[Weight, ...]:
    """Constants in the order of their first use."""
    readers: dict[str, list[str]] = {}
    for op in graph.ops:
        for name in dict.fromkeys((*op.inputs, *op.captured)):
            if name and graph.tensors[name].is_constant:
                readers.setdefault(name, []).append(op.name)
    tensors = ((graph.tensors[name], tuple(ops)) for name, ops in readers.items())
    return tuple(
        Weight(tensor.name, tensor.dtype, tensor.shape or (), tensor.size_bytes, ops)
        for tensor, ops in tensors
    )
