"""Types, shapes and small values of every tensor, for graphs of hundreds of thousands of operators.

onnx infers whole models; a large one is mostly the same layer again. So each operator is inferred
alone, by onnx, once for each different signature: its type, attributes and body, and what is known
of its operands. A stack of 96 layers costs as much as two of them and a lookup for each operator.

Beside types, values of up to `MAX_ELEMENTS` elements are carried along and computed by onnx's
reference implementation: shape arithmetic ends in the numbers that Reshape, Expand and Range need.

Why alone? It also gives an operator that onnx objects to a second opinion: a model of that one
operator, typed, without weights, which ONNX Runtime can be asked about.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from planner.errors import ModelError
from planner.graph import judge, proto
from planner.graph.piece import Piece

Array = np.ndarray[Any, Any]

MAX_ELEMENTS = 16384
"""Largest value carried along: shapes, positions and small tables, never weights."""
UNKNOWN = 0
"""Id of the fact that says nothing."""
ABSENT = -1
"""In a signature: an omitted optional operand."""
_ALONE = "operator"
"""Name of the graph of one operator."""
RANDOM = frozenset(
    (
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        *("Multinomial", "Bernoulli"),
    )
)
"""Operators whose outputs differ from run to run."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of a tensor."""

    type_bytes: bytes
    """Serialised `TypeProto`; empty where nothing is known."""
    dtype: str
    shape: tuple[int, ...] | None
    size_bytes: int
    value: Array | None = None


NOTHING = Fact(b"", "undefined", None, 0)


@dataclass
class Propagation:
    """Knowledge about the operators of one model, shared by all its workload shapes."""

    opsets: Mapping[str, int]
    ir_version: int
    facts: list[Fact] = field(default_factory=lambda: [NOTHING])
    notes: dict[str, None] = field(default_factory=dict)
    _ids: dict[tuple[bytes, bytes | None], int] = field(default_factory=dict)
    _known: dict[tuple[object, ...], tuple[int, ...]] = field(default_factory=dict)

    def learn(self, type_: TypeProto, value: Array | None = None) -> int:
        """The id of a fact; equal facts have one id.

        Raises:
            ModelError: more elements than 64-bit arithmetic can count.
        """
        if not type_.WhichOneof("value"):
            return UNKNOWN
        for dim in type_.tensor_type.shape.dim if type_.HasField("tensor_type") else ():
            dim.ClearField("dim_param")
            if dim.dim_value < 0:
                dim.ClearField("dim_value")
        encoded = type_.SerializeToString(deterministic=True)
        key = (encoded, None if value is None else value.tobytes())
        if key not in self._ids:
            self._ids[key] = len(self.facts)
            self.facts.append(_fact(type_, encoded, value))
        return self._ids[key]

    def learn_array(self, value: Array) -> int:
        """A fact whose value is known."""
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
        return self.learn(helper.make_tensor_type_proto(dtype, list(value.shape)), value)

    def learn_tensor(self, tensor: TensorProto) -> int:
        """A stored tensor: with its value where that is small and here, else its type."""
        is_here = tensor.data_location != TensorProto.EXTERNAL
        if is_here and math.prod(tensor.dims) <= MAX_ELEMENTS and _is_numeric(tensor.data_type):
            return self.learn_array(numpy_helper.to_array(tensor))
        return self.learn(helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims)))

    def run(self, pieces: Iterable[Piece], start: Mapping[str, int]) -> dict[str, int]:
        """Fact ids of every tensor.

        Args:
            pieces: operators in topological order.
            start: ids of inputs and initialisers.

        Raises:
            ModelError: an operator's operands do not fit, and ONNX Runtime agrees.
        """
        ids = dict(start)
        known = self._known
        for piece in pieces:
            operands = tuple([ids.get(name, UNKNOWN) if name else ABSENT for name in piece.inputs])
            outer = tuple([ids.get(name, UNKNOWN) for name in piece.captured])
            signature = (piece.look, operands, piece.captured, outer)
            made = known.get(signature)
            if made is None:
                made = known[signature] = self._infer(piece, operands, outer)
            ids.update(zip(piece.outputs, made, strict=True))
        ids.pop("", None)
        return ids

    def _infer(
        self, piece: Piece, operands: tuple[int, ...], captured: tuple[int, ...]
    ) -> tuple[int, ...]:
        node = piece.node
        facts = [self.facts[one] if one != ABSENT else None for one in operands]
        outer = {name: self.facts[one] for name, one in zip(piece.captured, captured, strict=True)}
        nothing = (UNKNOWN,) * len(node.output)
        if any(fact is NOTHING for fact in (*facts, *outer.values())):
            return nothing
        if not self._is_ours(node):
            self.notes[f"shapes behind {proto.kind(node)} are unknown: no schema of it"] = None
            return nothing
        shape = _shape_value(node, facts)
        if shape is not None:
            return (self.learn_array(shape),)
        lone = self._alone(node, facts, outer)
        types = self._types(node, lone)
        values = _values(node, facts, outer, types, lone)
        return tuple(map(self.learn, types, values))

    def _is_ours(self, node: NodeProto) -> bool:
        domain = proto.domain_of(node.domain)
        version = self.opsets.get(domain, 0)
        return bool(onnx.defs.has(node.op_type, version, domain))

    def _alone(
        self, node: NodeProto, facts: Sequence[Fact | None], outer: Mapping[str, Fact]
    ) -> ModelProto:
        """A model of this one operator."""
        copy = NodeProto()
        copy.CopyFrom(node)
        graph = GraphProto(name=_ALONE)
        copy.input[:] = [f"operand_{i}" if fact else "" for i, fact in enumerate(facts)]
        copy.output[:] = [f"result_{i}" if name else "" for i, name in enumerate(node.output)]
        graph.node.append(copy)
        operands = {f"operand_{i}": fact for i, fact in enumerate(facts) if fact}
        for name, fact in {**operands, **outer}.items():
            if fact.value is not None:
                graph.initializer.append(numpy_helper.from_array(fact.value, name))
            else:
                declared = graph.input.add(name=name)
                declared.type.ParseFromString(fact.type_bytes)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in copy.output if name)
        imports = [helper.make_opsetid(*entry) for entry in self.opsets.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=self.ir_version)

    def _types(self, node: NodeProto, lone: ModelProto) -> list[TypeProto]:
        """Types of the node's outputs.

        Raises:
            ModelError: onnx and ONNX Runtime both object.
        """
        try:
            inferred = onnx.shape_inference.infer_shapes(
                lone, check_type=True, strict_mode=True, data_prop=True
            )
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
            self._settle(node, lone, " ".join(str(error).split())[:400])
            inferred = onnx.shape_inference.infer_shapes(lone)
        found = {value.name: value.type for value in inferred.graph.output}
        names = lone.graph.node[0].output
        return [found.get(name, TypeProto()) for name in names]

    def _settle(self, node: NodeProto, lone: ModelProto, what: str) -> None:
        with tempfile.TemporaryDirectory(prefix="infopt-") as folder:
            path = Path(folder) / "operator.onnx"
            typed = ModelProto.FromString(lone.SerializeToString())
            onnx.save_model(typed, path)
            refusal = judge.second_opinion(path)
        if refusal is not None:
            raise ModelError(
                f"operator {proto.label(node)}: {what}; ONNX Runtime says: {refusal[:300]}",
                fix="bind other shapes with --shapes, or export the model again",
            )
        self.notes[f"onnx objects, ONNX Runtime does not: {proto.label(node)}: {what}"] = None


def _fact(type_: TypeProto, encoded: bytes, value: Array | None) -> Fact:
    port = proto.port(onnx.ValueInfoProto(name="", type=type_))
    shape = port.shape
    if shape is None:
        return Fact(encoded, port.dtype, None, 0, value)
    if math.prod(shape) * 16 > proto.MAX_SIZE_BYTES:
        raise ModelError(
            f"a tensor of {'x'.join(map(str, shape))} elements is more than 64-bit arithmetic can"
            " count",
            fix="bind smaller shapes with --shapes",
        )
    return Fact(encoded, port.dtype, shape, proto.size_bytes(port.dtype, shape), value)


def _is_numeric(data_type: int) -> bool:
    return data_type not in (TensorProto.STRING, TensorProto.UNDEFINED)


def _shape_value(node: NodeProto, facts: Sequence[Fact | None]) -> Array | None:
    """What Shape and Size give where the shape is known, whatever the data."""
    if proto.domain_of(node.domain) or node.op_type not in ("Shape", "Size") or not facts[0]:
        return None
    shape = facts[0].shape
    if shape is None:
        return None
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    ends = {attribute.name: int(attribute.i) for attribute in node.attribute}
    return np.array(shape[ends.get("start", 0) : ends.get("end", len(shape))], np.int64)


def _values(
    node: NodeProto,
    facts: Iterable[Fact | None],
    outer: Mapping[str, Fact],
    types: Sequence[TypeProto],
    lone: ModelProto,
) -> list[Array | None]:
    """Values of the outputs where every operand's value is known and they are small."""
    unknown: list[Array | None] = [None] * len(types)
    operands = [fact for fact in (*facts, *outer.values()) if fact is not None]
    if any(fact.value is None for fact in operands) or not all(map(_is_small, types)):
        return unknown
    if node.op_type in RANDOM or proto.domain_of(node.domain):
        return unknown
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(lone).run(None, {})
    except Exception:  # noqa: BLE001 - a value nobody computes here stays unknown
        return unknown
    values = iter(made)
    found = [next(values) if name else None for name in node.output]
    return [_checked(value, type_) for value, type_ in zip(found, types, strict=True)]


def _is_small(type_: TypeProto) -> bool:
    tensor = type_.tensor_type
    if not type_.HasField("tensor_type") or not tensor.HasField("shape"):
        return False
    if not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return False
    is_plain = _is_numeric(tensor.elem_type)
    return is_plain and math.prod(dim.dim_value for dim in tensor.shape.dim) <= MAX_ELEMENTS


def _checked(value: object, type_: TypeProto) -> Array | None:
    """The value, if it is what inference said it would be."""
    if not isinstance(value, np.ndarray | np.generic):
        return None
    array = np.asarray(value)
    tensor = type_.tensor_type
    if array.shape != tuple(dim.dim_value for dim in tensor.shape.dim):
        return None
    if array.dtype != helper.tensor_dtype_to_np_dtype(tensor.elem_type):
        return None
    return array
