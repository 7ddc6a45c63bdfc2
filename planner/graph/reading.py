"""One model without its weights as it is read: what is known of its tensors, what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from planner.graph import judge, proto
from planner.graph.bind import Shapes
from planner.graph.piece import pieces_of
from planner.graph.propagate import NOTHING, Fact, Propagation
from planner.graph.strip import Stripped, strip
from planner.ir.graph import Graph, Op, Tensor

Attributes = Mapping[str, Any]
"""Of one operator: numbers, strings, tuples of them; tensors and bodies are left out."""


class Reading:
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
