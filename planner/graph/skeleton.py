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
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

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
from planner.graph.piece import pieces_of
from planner.graph.propagate import NOTHING, Fact, Propagation
from planner.graph.sandbox import Bounds, Sandbox
from planner.graph.strip import Stripped, strip
from planner.ir.graph import Graph, Op, Tensor

Attributes = Mapping[str, Any]
"""Of one operator: numbers, strings, tuples of them; tensors and bodies are left out."""

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
    read = _Reading(model, kept)
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


class _Reading:
    """One normalised model, and what is found out about it."""

    def __init__(self, model: ModelProto, kept: frozenset[str]) -> None:
        graph = model.graph
        self._graph: GraphProto = graph
        self._pieces = pieces_of(graph.node)
        self._outputs = tuple(value.name for value in graph.output)
        self._known = Propagation(judge.opsets(model), int(model.ir_version))
        self._stored = {
            tensor.name: self._known.learn_tensor(tensor)
            for tensor in graph.initializer
            if tensor.name not in kept
        }
        for sparse in graph.sparse_initializer:
            type_ = helper.make_tensor_type_proto(sparse.values.data_type, list(sparse.dims))
            self._stored[sparse.values.name] = self._known.learn(type_)

    def run(self, shapes: Shapes) -> dict[str, Fact]:
        """What is known of every tensor when inputs have these shapes."""
        start = dict(self._stored)
        for value in self._graph.input:
            start.setdefault(value.name, self._input(value, shapes))
        ids = self._known.run(self._pieces, start)
        facts = self._known.facts
        return {name: facts[one] for name, one in ids.items()}

    def _input(self, value: onnx.ValueInfoProto, shapes: Shapes) -> int:
        if value.name not in shapes:
            return self._known.learn(_copy(value.type))
        element = value.type.tensor_type.elem_type
        return self._known.learn(helper.make_tensor_type_proto(element, list(shapes[value.name])))

    def strip(self, runs: tuple[dict[str, Fact], ...]) -> Stripped:
        stored, outputs = frozenset(self._stored), frozenset(self._outputs)
        return strip(self._pieces, runs, stored, outputs)

    def ops(self, stripped: Stripped) -> tuple[Op, ...]:
        """The operators that are left."""
        new = stripped.renamed
        return tuple(
            Op(
                name=piece.node.name,
                op_type=piece.node.op_type,
                domain=proto.domain_of(piece.node.domain),
                inputs=tuple([new.get(name, name) for name in piece.inputs]),
                outputs=piece.outputs,
                captured=tuple([new.get(name, name) for name in piece.captured]),
            )
            for piece in (self._pieces[position] for position in stripped.kept)
        )

    def graph(self, ops: tuple[Op, ...], stripped: Stripped, run: Mapping[str, Fact]) -> Graph:
        """The operators with the sizes of one workload entry."""
        fed = tuple(v.name for v in self._graph.input if v.name not in self._stored)
        touched = dict.fromkeys((*fed, *self._outputs))
        for op in ops:
            touched.update(dict.fromkeys((*op.inputs, *op.captured, *op.outputs)))
        touched.pop("", None)
        tensors = {
            name: _tensor(name, run.get(name, NOTHING), name in stripped.constants)
            for name in touched
        }
        return Graph(ops=ops, tensors=tensors, inputs=fed, outputs=self._outputs)

    def marks(
        self, ops: tuple[Op, ...], stripped: Stripped, graphs: tuple[Graph, ...]
    ) -> dict[str, int]:
        """Operator -> a number that is equal for operators alike under every workload entry."""
        seen: dict[object, int] = {}
        found: dict[str, int] = {}
        for op, position in zip(ops, stripped.kept, strict=True):
            shapes = tuple(
                graph.tensors[name].shape if name else None
                for graph in graphs[1:]
                for name in (*op.inputs, *op.outputs)
            )
            found[op.name] = seen.setdefault((self._pieces[position].look, shapes), len(seen))
        return found

    def attributes(self, ops: tuple[Op, ...], stripped: Stripped) -> dict[str, Attributes]:
        """Attributes by operator; equal operators share one mapping."""
        made: dict[object, Attributes] = {}
        found: dict[str, Attributes] = {}
        for op, position in zip(ops, stripped.kept, strict=True):
            piece = self._pieces[position]
            if piece.look not in made:
                made[piece.look] = _plain(piece.node)
            found[op.name] = made[piece.look]
        return found

    def notes(self, stripped: Stripped) -> tuple[str, ...]:
        """What a person should know about how the model was read."""
        gone = [f"{count:,} {reason}" for reason, count in sorted(stripped.reasons.items())]
        removed = [f"operators taken away: {', '.join(gone)}"] if gone else []
        skipped = "not simplified further: folding constants and batch norms needs weight values"
        return (*self._known.notes, *removed, skipped)


def _copy(type_: onnx.TypeProto) -> onnx.TypeProto:
    copy = onnx.TypeProto()
    copy.CopyFrom(type_)
    return copy


def _tensor(name: str, fact: Fact, is_constant: bool) -> Tensor:
    return Tensor(name, fact.dtype, fact.shape, fact.size_bytes, is_constant)


def _plain(node: NodeProto) -> dict[str, Any]:
    """Attributes as plain values."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, int | float | str):
            found[attribute.name] = value
        elif not isinstance(value, bytes) and attribute.type in _NUMBERS:
            found[attribute.name] = tuple(value)
    return found


_NUMBERS = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS)


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
