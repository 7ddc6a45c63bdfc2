"""Small, exact operations on ONNX protobufs that the methods share."""

from __future__ import annotations

import contextlib
import heapq
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
)

from planner.compress.base import Array
from planner.errors import ModelError
from planner.graph import proto, weights

_CONTRIB = "com.microsoft"
PARKED_ELEMENTS = 1024
"""Smaller constants stay: shape inference reads them."""


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Attribute values by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def opset_of(onnx_model: ModelProto) -> int:
    """Version of ONNX's own operator set."""
    return next((o.version for o in onnx_model.opset_import if o.domain in ("", "ai.onnx")), 1)


def need_contrib(onnx_model: ModelProto) -> None:
    """Declare ONNX Runtime's own operator domain."""
    if all(o.domain != _CONTRIB for o in onnx_model.opset_import):
        onnx_model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))


def initialisers(onnx_model: ModelProto) -> dict[str, TensorProto]:
    """Weights by name (of the top-level graph)."""
    return {tensor.name: tensor for tensor in onnx_model.graph.initializer}


def names_used(graph: GraphProto) -> set[str]:
    """Tensor names that the nodes of the graph and of its bodies read, and the graph's outputs."""
    used = {name for node in graph.node for name in node.input}
    used.update(value.name for value in graph.output)
    for node in graph.node:
        for body in _bodies(node):
            used |= names_used(body)
    return used


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def reads_of(node: NodeProto) -> set[str]:
    """Everything a node reads, tensors that its bodies capture included (not their own)."""
    return {name for name in (*node.input, *proto.captured(node)) if name}


def read_by(onnx_model: ModelProto, ops: Collection[str]) -> set[str]:
    """Everything that these operators read."""
    nodes = (node for node in onnx_model.graph.node if node.name in ops)
    return {name for node in nodes for name in reads_of(node)}


def embed(onnx_model: ModelProto, names: Collection[str], folder: Path) -> None:
    """Reads those of these weights that lie in `folder`, beside the model, into it."""
    for tensor in onnx_model.graph.initializer:
        if tensor.name in names and weights.is_external(tensor):
            weights.embed(tensor, folder)


def drop_unused(onnx_model: ModelProto) -> None:
    """Remove initialisers that nobody reads, and sort the rest by name: same model, same bytes.

    In place: a protobuf keeps in memory what it once held, so what is put back is there twice.
    """
    used, kept = names_used(onnx_model.graph), onnx_model.graph.initializer
    first = {tensor.name: index for index, tensor in reversed(list(enumerate(kept)))}
    wanted = {first[name] for name in first.keys() & used}
    for index in range(len(kept) - 1, -1, -1):
        if index not in wanted:
            del kept[index]
    kept.sort(key=lambda tensor: tensor.name)


def sort_nodes(graph: GraphProto) -> None:
    """Topological order, ties broken by the present order. O(nodes · log nodes + edges).

    Raises:
        ModelError: the graph has a cycle.
    """
    nodes = list(graph.node)
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    waits = [{maker[name] for name in reads_of(node) if name in maker} for node in nodes]
    readers: dict[int, list[int]] = {}
    for i, makers in enumerate(waits):
        for j in makers:
            readers.setdefault(j, []).append(i)
    missing = [len(makers) for makers in waits]
    ready = [i for i, count in enumerate(missing) if count == 0]
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for j in readers.get(i, ()):
            missing[j] -= 1
            if missing[j] == 0:
                heapq.heappush(ready, j)
    if len(order) != len(nodes):
        raise ModelError("the graph has a cycle")
    sorted_nodes = [nodes[i] for i in order]
    graph.ClearField("node")
    graph.node.extend(sorted_nodes)


def name_nodes(graph: GraphProto) -> None:
    """Give nodes without a name, or with a name seen before, one derived from what they make."""
    seen: set[str] = set()
    for node in graph.node:
        base = node.name or next((name for name in node.output if name), node.op_type)
        name, count = base, 1
        while name in seen:
            count += 1
            name = f"{base}_{count}"
        seen.add(name)
        node.name = name


def all_names(onnx_model: ModelProto) -> set[str]:
    """Names of all tensors and nodes of the top-level graph."""
    graph = onnx_model.graph
    names = {value.name for value in (*graph.input, *graph.output)}
    names.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        names.update((node.name, *node.input, *node.output))
    return names


def mark_new_names(onnx_model: ModelProto, known: Collection[str], suffix: str) -> None:
    """Append `suffix` to every tensor and node name that is not among `known`, in place.

    Why: two tools give a tensor's scale the same name.
    """

    def marked(name: str) -> str:
        return name if not name or name in known else f"{name}{suffix}"

    for tensor in onnx_model.graph.initializer:
        tensor.name = marked(tensor.name)
    for node in onnx_model.graph.node:
        node.name = marked(node.name)
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = marked(name)


def split_shared_weights(onnx_model: ModelProto, format_of: Mapping[str, str]) -> None:
    """Give each format its own copy of a weight that operators of several formats share; what is an
    output of the model as well belongs to that.

    Why: the tools quantise a weight for every reader, or name two quantised forms alike.
    """
    names = initialisers(onnx_model)
    owner = {value.name: "" for value in onnx_model.graph.output}
    for node in onnx_model.graph.node:
        mine = format_of.get(node.name, "")
        for i, name in enumerate(node.input):
            if name not in names or owner.setdefault(name, mine) == mine:
                continue
            copy = f"{name}__{mine or 'native'}"
            if copy not in names:
                tensor = TensorProto()
                tensor.CopyFrom(names[name])
                tensor.name = copy
                names[copy] = tensor
                onnx_model.graph.initializer.append(tensor)
            node.input[i] = copy


@contextlib.contextmanager
def parked_weights(onnx_model: ModelProto, ops: Collection[str]) -> Iterator[None]:
    """Hide the weights that none of `ops` reads as graph inputs while a tool works.

    Why: the tools copy, save and reload the whole model several times.
    """
    needed = {name for node in onnx_model.graph.node if node.name in ops for name in reads_of(node)}
    graph = onnx_model.graph
    parked: list[TensorProto] = []
    for index in range(len(graph.initializer) - 1, -1, -1):  # those that stay are not copied
        tensor = graph.initializer[index]
        if tensor.name not in needed and math.prod(tensor.dims) > PARKED_ELEMENTS:
            parked.insert(0, graph.initializer.pop(index))
    declared = {value.name for value in graph.input}
    graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in parked
        if t.name not in declared
    )
    added = {t.name for t in parked} - declared
    try:
        yield
    finally:
        inputs = [value for value in graph.input if value.name not in added]
        graph.ClearField("input")
        graph.input.extend(inputs)
        graph.initializer.extend(parked)


def to_array(tensor: TensorProto) -> Array:
    """An initialiser as an array."""
    return np.asarray(numpy_helper.to_array(tensor))


def from_array(value: Array, name: str) -> TensorProto:
    """An array as an initialiser."""
    return numpy_helper.from_array(np.ascontiguousarray(value), name)
