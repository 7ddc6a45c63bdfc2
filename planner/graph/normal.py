"""Rewrites a model into the one form the rest of infopt sees. Runs in the sandbox.

functions        ->  inlined
sparse weights   ->  dense
Constant nodes   ->  initialisers (in control-flow bodies they stay)
default inputs   ->  plain constants, unless the user bound them
operators        ->  sorted, with unique non-empty names
claimed shapes   ->  inferred from the bound input shapes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, numpy_helper

from planner.errors import ModelError
from planner.graph import container, functions, infer, judge, names, proto, store, structure, twins
from planner.graph.inspection import FIRST_IR_WITH_DEFAULTS
from planner.graph.model import BoundModel, Dim, Port
from planner.units import format_size

MAX_DENSE_BYTES = 2**30
"""Largest sparse initialiser that is unpacked."""
_SCALAR_FIELDS = ("value_float", "value_int", "value_string")
_LIST_FIELDS = ("value_floats", "value_ints", "value_strings")


@dataclass(frozen=True, slots=True)
class Binding:
    """What the user asked for: a shape per input, and which default inputs stay inputs."""

    shapes: Mapping[str, tuple[Dim, ...]]
    """Names are dimensions that stay symbolic."""
    kept_defaults: frozenset[str]


def normalise(path: Path, binding: Binding, out_path: Path) -> BoundModel:
    """Writes the normal form of the model at `path`, its inputs bound, to `out_path`.

    Raises:
        ModelError: the shapes do not fit the model.
    """
    bound = _write(path, binding, out_path, is_fixed=True)
    if not _has_bodies(bound.path) or judge.second_opinion(bound.path, optimised=True) is None:
        return bound
    # ONNX Runtime checks every branch, also those never taken. Open dimensions satisfy it.
    open_ = _write(path, binding, out_path, is_fixed=False)
    note = "a branch not taken does not fit these shapes: input dimensions stay open in the file"
    inputs = tuple(_with_shape(port, binding.shapes) for port in open_.inputs)
    return replace(open_, inputs=inputs, notes=(*open_.notes, note))


def _write(path: Path, binding: Binding, out_path: Path, is_fixed: bool) -> BoundModel:
    model = functions.inline(container.parse(path))
    graph = model.graph
    del model.functions[:]
    densify(graph)
    drop_defaults(model, binding.kept_defaults)
    if is_fixed:
        proto.set_shapes(graph, binding.shapes)
    lift_constants(graph)
    twins.merge(graph, path.parent)
    structure.sort(graph)
    names.rename(graph)
    notes = infer.annotate(model)
    size_bytes = store.write(model, out_path, path.parent)
    bound = BoundModel(
        path=out_path,
        size_bytes=size_bytes,
        inputs=tuple(proto.port(value) for value in graph.input),
        outputs=tuple(proto.port(value) for value in graph.output),
        notes=notes,
    )
    judge.lift_weights(graph)
    _refuse_clash(model, out_path)
    return bound


def _with_shape(port: Port, shapes: Mapping[str, tuple[Dim, ...]]) -> Port:
    return replace(port, dims=shapes[port.name]) if port.name in shapes else port


def _has_bodies(path: Path) -> bool:
    nodes = container.parse(path).graph.node
    return any(True for node in nodes for _ in proto.subgraphs(node))


def _refuse_clash(model: ModelProto, out_path: Path) -> None:
    """Shapes that do not fit show up only now, and only ONNX Runtime's word is final."""
    try:
        judge.settle(judge.objections(model), out_path)
    except ModelError:
        out_path.unlink(missing_ok=True)
        store.data_path(out_path).unlink(missing_ok=True)
        raise


def densify(graph: GraphProto) -> None:
    """Turns sparse initialisers and constants into dense ones.

    Raises:
        ModelError: one is too large for that.
    """
    for part in proto.graphs(graph):
        stored = part.sparse_initializer
        part.initializer.extend(_dense(sparse, sparse.values.name) for sparse in stored)
        del part.sparse_initializer[:]
        for node in part.node:
            _densify_constant(node)


def _densify_constant(node: NodeProto) -> None:
    if node.op_type != "Constant" or proto.domain_of(node.domain) or len(node.attribute) != 1:
        return
    (attribute,) = node.attribute
    if attribute.name == "sparse_value":
        dense = _dense(attribute.sparse_tensor, node.output[0])
        attribute.CopyFrom(onnx.helper.make_attribute("value", dense))


def _dense(sparse: SparseTensorProto, name: str) -> TensorProto:
    values = numpy_helper.to_array(sparse.values)
    size_bytes = proto.size_bytes(proto.dtype_name(sparse.values.data_type), sparse.dims)
    if size_bytes > MAX_DENSE_BYTES:
        raise ModelError(
            f"the sparse tensor {proto.short(name)!r} would take {format_size(size_bytes)} dense",
            fix=f"at most {format_size(MAX_DENSE_BYTES)}; ONNX Runtime unpacks it as well",
        )
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    indices = numpy_helper.to_array(sparse.indices)
    try:
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        raise ModelError(f"the sparse tensor {proto.short(name)!r}: {error}") from None
    return numpy_helper.from_array(dense, name)


def drop_defaults(model: ModelProto, kept: frozenset[str]) -> None:
    """Initialisers stop being inputs, so that they can be folded; `kept` ones stay overridable."""
    stored = {tensor.name for tensor in model.graph.initializer} - kept
    values = [value for value in model.graph.input if value.name in stored]
    for value in values:
        model.graph.input.remove(value)
    if values:
        # Older versions demand that every initialiser is an input.
        model.ir_version = max(model.ir_version, FIRST_IR_WITH_DEFAULTS)


def lift_constants(graph: GraphProto) -> None:
    """Constant operators of the top graph become initialisers."""
    lifted = [(node, tensor) for node in graph.node if (tensor := _constant(node)) is not None]
    if not lifted:
        return
    gone = {node.output[0] for node, _ in lifted}
    graph.initializer.extend(tensor for _, tensor in lifted)
    kept = [node for node in graph.node if not (node.output and node.output[0] in gone)]
    kept = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(kept)


def _constant(node: NodeProto) -> TensorProto | None:
    """The value of a Constant operator as an initialiser; None for others."""
    if node.op_type != "Constant" or proto.domain_of(node.domain) or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    if attribute.name not in (*_SCALAR_FIELDS, *_LIST_FIELDS):
        return None
    value = onnx.helper.get_attribute_value(attribute)
    dims = [] if attribute.name in _SCALAR_FIELDS else [len(value)]
    kind = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "s": TensorProto.STRING}
    values = [value] if attribute.name in _SCALAR_FIELDS else value
    return onnx.helper.make_tensor(
        node.output[0], kind[attribute.name.removeprefix("value_")[0]], dims, values
    )
