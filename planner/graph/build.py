"""From a model file to `ir.Graph`: operators, tensors, sizes. No weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from planner.errors import ModelError
from planner.graph import container, infer, names, proto, structure
from planner.graph.sandbox import Bounds, Sandbox
from planner.graph.selectors import selectors
from planner.ir.graph import Graph, Op, Tensor

Observed = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name -> (dtype, shape) seen when the model ran."""


def build_graph(
    model_path: Path,
    shapes_of: Observed | None = None,
    *,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    limits: Bounds | None = None,
) -> Graph:
    """The graph of a bound or simplified model.

    Shapes are those observed where given, else declared or inferred (from `inputs`, the shapes of
    one of several workloads, where given); None where they depend on the data. Weights inside the
    bodies of control flow appear as constants named `<op>::<weight>`: they take memory although no
    operator of the graph reads them by name.

    Raises:
        ModelError: the file is damaged, or its operators form a cycle.
    """
    container.check_path(model_path)
    bounds = (limits or Bounds()).for_size(model_path.stat().st_size)
    sandbox = Sandbox("reading the graph", str(model_path), bounds)
    try:
        return sandbox.call(read_graph, model_path, dict(shapes_of or {}), dict(inputs or {}))
    except ModelError as error:
        raise ModelError(error.what, where=str(model_path), fix=error.fix) from None


def read_graph(
    model_path: Path,
    observed: Observed,
    inputs: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Graph:
    """`build_graph` in this process."""
    model = container.parse(model_path)
    proto.set_shapes(model.graph, inputs)
    structure.check_names(model.graph)
    structure.sort(model.graph)
    names.ensure_unique(model.graph)
    infer.annotate(model)
    ops = tuple(_op(node) for node in model.graph.node)
    return Graph(
        ops=ops,
        tensors=_tensors(model, ops, observed),
        inputs=_fed(model.graph),
        outputs=tuple(value.name for value in model.graph.output),
        selectors=selectors(model.graph),
    )


def _op(node: NodeProto) -> Op:
    return Op(
        name=node.name,
        op_type=node.op_type,
        domain=proto.domain_of(node.domain),
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        captured=proto.captured(node),
    )


def _fed(graph: GraphProto) -> tuple[str, ...]:
    """Inputs that are no defaults."""
    stored = {tensor.name for tensor in graph.initializer}
    return tuple(value.name for value in graph.input if value.name not in stored)


def _tensors(model: ModelProto, ops: tuple[Op, ...], observed: Observed) -> dict[str, Tensor]:
    """Every tensor an operator touches, every input, output and weight."""
    graph = model.graph
    found = _constants(graph)
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.name not in found:
            port = proto.port(value)
            found[value.name] = _tensor(value.name, port.dtype, port.shape)
    touched = (name for op in ops for name in (*op.inputs, *op.captured, *op.outputs) if name)
    for name in touched:
        found.setdefault(name, Tensor(name, "undefined", None, 0))
    for name, (dtype, shape) in observed.items():
        if name in found and not found[name].is_constant:
            found[name] = _tensor(name, dtype, tuple(shape))
    return found


def _tensor(name: str, dtype: str, shape: tuple[int, ...] | None) -> Tensor:
    return Tensor(name, dtype, shape, proto.size_bytes(dtype, shape) if shape is not None else 0)


def _constants(graph: GraphProto) -> dict[str, Tensor]:
    """Weights of the graph, and those inside bodies under a name of their own."""
    found = {tensor.name: _constant(tensor, tensor.name) for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        values = sparse.values
        dtype = proto.dtype_name(values.data_type)
        shape = tuple(sparse.dims)
        size_bytes = proto.size_bytes(dtype, shape)
        found[values.name] = Tensor(values.name, dtype, shape, size_bytes, is_constant=True)
    for node in graph.node:
        for index, tensor in enumerate(proto.body_tensors(node)):
            name = f"{node.name}::{tensor.name or index}"
            name = f"{name}#{index}" if name in found else name
            found[name] = _constant(tensor, name)
    return found


def _constant(tensor: TensorProto, name: str) -> Tensor:
    dtype = proto.dtype_name(tensor.data_type)
    size_bytes = proto.tensor_size_bytes(tensor)
    return Tensor(name, dtype, tuple(tensor.dims), size_bytes, is_constant=True)
