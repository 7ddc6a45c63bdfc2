"""One level of one stage as ONNX files: the same operators on every rank, each its own weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from planner.emit.blueprint import Part
from planner.emit.partition import lookup
from planner.emit.partition.layout import WHOLE, Layout
from planner.emit.partition.local import attributes, shape_operand
from planner.emit.partition.schedule import Converted, Level, Placed
from planner.ir.graph import Graph
from planner.ops.sharding import Kind
from planner.spec.session import SessionSettings

Array = np.ndarray[Any, Any]

EXTERNAL_FROM_BYTES = 2**30
"""Weights of a part beyond this go into a file beside it: one protobuf holds 2 GiB."""
_LEAST_ISOLATED_BYTES = 1024


class Weights:
    """The model's constants, read when they are asked for."""

    def __init__(self, model: ModelProto, base: Path) -> None:
        self._base = base
        self._stored: dict[str, TensorProto] = {t.name: t for t in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def whole(self, name: str) -> TensorProto:
        """The constant itself, with its data."""
        stored = self._stored[name]
        if stored.data_location != TensorProto.EXTERNAL:
            return stored
        found = TensorProto()
        found.CopyFrom(stored)
        onnx.external_data_helper.load_external_data_for_tensor(found, str(self._base))
        found.ClearField("data_location")
        found.ClearField("external_data")
        return found

    def part(self, name: str, layout: Layout, rank: int, ranks: int) -> TensorProto:
        """A rank's slice of it, named after its layout."""
        tensor = self.whole(name)
        if layout == WHOLE:
            return tensor
        array = numpy_helper.to_array(tensor)
        own = _slice(array, layout.axis or 0, rank, ranks)
        found = numpy_helper.from_array(np.ascontiguousarray(own), layout.name(name))
        found.data_type = tensor.data_type
        return found


def _slice(array: Array, axis: int, rank: int, ranks: int) -> Array:
    share = array.shape[axis] // ranks
    index: list[slice] = [slice(None)] * array.ndim
    index[axis] = slice(rank * share, (rank + 1) * share)
    found: Array = array[tuple(index)]
    return found


class Writer:
    """Writes parts below a folder."""

    def __init__(
        self,
        model: ModelProto,
        graphs: Sequence[Graph],
        weights: Weights,
        folder: Path,
        settings: SessionSettings,
        external_from_bytes: int = EXTERNAL_FROM_BYTES,
    ) -> None:
        self._model = model
        self._graph, self._graphs = graphs[0], graphs
        self._weights = weights
        self._folder = folder
        self._settings = settings
        self._external_from_bytes = external_from_bytes
        self._nodes = {node.name: node for node in model.graph.node}
        self._types = _declared(model.graph)

    def part(
        self, ranks: tuple[int, ...], device: str, label: str, level: Level, later: set[str]
    ) -> Part:
        """One level of a stage, a file for each rank that differs from the first."""
        models = [self._model_of(level, rank, len(ranks), later) for rank in range(len(ranks))]
        if all(model == models[0] for model in models[1:]):
            del models[1:]
        paths = [self._save(model, f"{label}-rank{n}") for n, model in enumerate(models)]
        first = models[0].graph
        return Part(
            onnx_path=paths[0],
            inputs=tuple(value.name for value in first.input),
            outputs=tuple(value.name for value in first.output),
            settings=self._settings,
            is_temporary=True,
            device=device,
            ranks=ranks,
            shard_paths=tuple(paths[1:]),
        )

    def _save(self, model: ModelProto, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(parents=True)
        path = folder / "model.onnx"
        is_large = model.ByteSize() > self._external_from_bytes
        onnx.save_model(
            model, path, save_as_external_data=is_large, location="weights.bin",
            size_threshold=_LEAST_ISOLATED_BYTES,
        )  # fmt: skip
        return path

    def _model_of(self, level: Level, rank: int, ranks: int, later: set[str]) -> ModelProto:
        graph = GraphProto(name=self._model.graph.name or "part")
        read: dict[str, ValueInfoProto] = {}
        made: dict[str, ValueInfoProto] = {}
        for entry in level.ops:
            graph.node.extend(self._nodes_of(entry, graph, rank, ranks))
            for tensor, layout in self._reads(entry):
                read[layout.name(tensor)] = self._value(tensor, layout, ranks)
            for tensor, layout in _results(entry):
                made[layout.name(tensor)] = self._value(tensor, layout, ranks)
        inner = {name for node in graph.node for name in node.output}
        graph.input.extend(value for name, value in read.items() if name not in inner)
        graph.output.extend(value for name, value in made.items() if name in later)
        return helper.make_model(
            graph,
            opset_imports=list(self._model.opset_import),
            ir_version=self._model.ir_version,
            functions=list(self._model.functions),
        )

    def _reads(self, entry: Placed | Converted) -> list[tuple[str, Layout]]:
        """What an entry reads besides constants."""
        if isinstance(entry, Converted):
            return [(entry.tensor, entry.step.source)]
        pairs = [*zip(entry.op.inputs, entry.inputs, strict=True)]
        pairs += [(name, WHOLE) for name in entry.op.captured]
        return [(name, layout) for name, layout in pairs if name and name not in self._weights]

    def _nodes_of(
        self, entry: Placed | Converted, graph: GraphProto, rank: int, ranks: int
    ) -> list[NodeProto]:
        if isinstance(entry, Converted):
            return [self._split(entry, graph, rank, ranks)]
        node = NodeProto()
        node.CopyFrom(self._nodes[entry.op.name])
        names = zip(entry.op.inputs, entry.inputs, strict=True)
        node.input[:] = [layout.name(name) if name else "" for name, layout in names]
        made = zip(entry.op.outputs, entry.outputs, strict=True)
        node.output[:] = [layout.name(name) if name else "" for name, layout in made]
        self._add_constants(entry, graph, rank, ranks)
        if entry.index is None:
            return [node]
        self._localise(entry, node, graph, ranks)
        if rank and entry.index.kind is Kind.SUM:
            for slot in entry.index.once:
                node.input[slot] = ""
            while node.input and not node.input[-1]:
                del node.input[-1]
        if entry.index.kind is Kind.LOOKUP:
            return lookup.masked(entry, node, graph, self._graph, rank, ranks)
        return [node]

    def _add_constants(self, entry: Placed, graph: GraphProto, rank: int, ranks: int) -> None:
        known = {tensor.name for tensor in graph.initializer}
        pairs = [*zip(entry.op.inputs, entry.inputs, strict=True)]
        pairs += [(name, WHOLE) for name in entry.op.captured]
        for name, layout in pairs:
            if name in self._weights and layout.name(name) not in known:
                graph.initializer.append(self._weights.part(name, layout, rank, ranks))
                known.add(layout.name(name))

    def _localise(self, entry: Placed, node: NodeProto, graph: GraphProto, ranks: int) -> None:
        assert entry.index is not None
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        own = attributes(entry.op, entry.index, given, ranks)
        for attribute in node.attribute:
            if attribute.name in own:
                attribute.i = own[attribute.name]
        shape = shape_operand(entry.op, entry.index, self._graphs, ranks)
        if shape is not None:
            slot, dims = shape
            name = f"{entry.op.outputs[0]}@shape"
            graph.initializer.append(numpy_helper.from_array(np.array(dims, np.int64), name))
            node.input[slot] = name
            _drop_zero_rule(node)

    def _split(self, entry: Converted, graph: GraphProto, rank: int, ranks: int) -> NodeProto:
        """A rank's slice of what is whole."""
        axis = entry.step.axis or 0
        shape = self._graph.tensors[entry.tensor].shape
        assert shape is not None
        share = shape[axis] // ranks
        target = entry.step.target.name(entry.tensor)
        names = [f"{target}@{word}" for word in ("from", "to", "along")]
        for name, value in zip(names, (rank * share, (rank + 1) * share, axis), strict=True):
            graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
        return helper.make_node("Slice", [entry.tensor, *names], [target], f"split {target}")

    def _value(self, tensor: str, layout: Layout, ranks: int) -> ValueInfoProto:
        """The declaration of a tensor in a form."""
        value = ValueInfoProto(name=layout.name(tensor))
        value.type.CopyFrom(self._types[tensor])
        if layout.kind == "cut" and value.type.HasField("tensor_type"):
            shape = self._graph.tensors[tensor].shape
            assert shape is not None, "operators without a known shape have no index"
            dim = value.type.tensor_type.shape.dim[layout.axis or 0]
            dim.dim_value = math.ceil(shape[layout.axis or 0] / ranks)
        return value


def _results(entry: Placed | Converted) -> list[tuple[str, Layout]]:
    if isinstance(entry, Converted):
        return []
    pairs = zip(entry.op.outputs, entry.outputs, strict=True)
    return [(name, layout) for name, layout in pairs if name]


def _drop_zero_rule(node: NodeProto) -> None:
    """The new target shape is explicit: a 0 in it is a size."""
    kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _declared(graph: GraphProto) -> Mapping[str, Any]:
    """Tensor -> its type."""
    found = {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for name, tensor in stored.items():
        found.setdefault(name, helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims)))
    return found
