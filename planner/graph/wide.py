"""A model whose 16-bit floats are float32 inside; its inputs and outputs keep their types.

ONNX Runtime's CPU provider has no arithmetic in half precision: it casts around every operator, and
its integer kernels do not see through the casts. Widened once, the model needs no casts, rounds
less, and its operators can be compressed like any others.

    x: fp16 -> [Conv fp16] -> y: fp16      becomes      x -> Cast -> [Conv fp32] -> Cast -> y
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from planner.graph import container, infer, names, proto, store

MAX_SIZE_BYTES = 2**30
"""Models with more weights than this stay as they are: theirs would take twice the memory."""
_NARROW = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_datatype", "output_dtype", "precision"})
"""Attributes of ONNX's operators that name a tensor type."""
_KNOWN_DOMAINS = frozenset({"", "com.microsoft"})


def widen(path: Path, out_path: Path) -> bool:
    """Writes the model at `path` with every 16-bit float inside as float32; False where it has
    none, is too large, or has operators that nobody knows here. Picklable."""
    model = container.parse(path)
    if not can_widen(model):
        return False
    widen_in_place(model, path.parent)
    infer.annotate(model)
    store.write(model, out_path, path.parent)
    return True


def can_widen(model: ModelProto) -> bool:
    """Whether there is something to widen, and everything that it reaches is understood."""
    parts = tuple(proto.graphs(model.graph))
    domains = {proto.domain_of(node.domain) for part in parts for node in part.node}
    size_bytes = sum(proto.tensor_size_bytes(one) for one in proto.initialisers(model.graph))
    if model.functions or domains - _KNOWN_DOMAINS or size_bytes > MAX_SIZE_BYTES:
        return False
    stored = any(one.data_type in _NARROW for one in proto.tensors(model))
    ports = (port for part in parts for port in (*part.input, *part.output))
    return stored or any(_is_narrow(port.type) for port in ports)


def widen_in_place(model: ModelProto, folder: Path | None = None) -> None:
    """The same in memory; external data lies in `folder`. What shapes were inferred is forgotten.

    Inputs and outputs of the model are cast, under new names inside.
    """
    graph = model.graph
    fed = {port.name for port in graph.input}
    for item in proto.tensors(model):
        if item.name not in fed:  # the default of an input has the type of the input
            _widen(item, folder)
    for part in proto.graphs(graph):
        del part.value_info[:]
        for node in part.node:
            _widen_types(node)
        if part is not graph:
            for port in (*part.input, *part.output):
                _widen_type(port.type)
    _cast_ends(graph)


def _widen(item: TensorProto, folder: Path | None) -> None:
    if item.data_type not in _NARROW:
        return
    value = numpy_helper.to_array(item, str(folder or "")).astype(np.float32)
    item.CopyFrom(numpy_helper.from_array(value, item.name))


def _widen_types(node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
            attribute.i = TensorProto.FLOAT


def _widen_type(kind: TypeProto) -> None:
    for inner in _tensor_types(kind):
        if inner.elem_type in _NARROW:
            inner.elem_type = TensorProto.FLOAT


def _is_narrow(kind: TypeProto) -> bool:
    return any(inner.elem_type in _NARROW for inner in _tensor_types(kind))


def _tensor_types(kind: TypeProto) -> Iterator[TypeProto.Tensor]:
    """The tensor inside a tensor, sequence or optional type."""
    if kind.HasField("tensor_type"):
        yield kind.tensor_type
    elif kind.HasField("sequence_type"):
        yield from _tensor_types(kind.sequence_type.elem_type)
    elif kind.HasField("optional_type"):
        yield from _tensor_types(kind.optional_type.elem_type)


def _cast_ends(graph: GraphProto) -> None:
    """Casts between the model's 16-bit inputs and outputs and what is computed inside."""
    inputs = [port for port in graph.input if _is_narrow(port.type)]
    outputs = [port for port in graph.output if _is_narrow(port.type)]
    taken = set(names.tensor_names(graph))
    ends = dict.fromkeys(port.name for port in (*inputs, *outputs))
    renamed = {name: names.fresh(f"{name}__wide", taken) for name in ends}
    contract = [port.name for port in graph.output]
    proto.rename_reads(graph, renamed)
    for port, name in zip(graph.output, contract, strict=True):
        port.name = name
    fed = {port.name for port in graph.input}
    for item in graph.initializer:
        item.name = item.name if item.name in fed else renamed.get(item.name, item.name)
    for node in graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
    first = [_cast(port.name, renamed[port.name], TensorProto.FLOAT) for port in inputs]
    last = [
        _cast(renamed[port.name], port.name, port.type.tensor_type.elem_type)
        for port in outputs
        if port.name not in fed
    ]
    kept = [NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*first, *kept, *last])


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}__cast", to=kind)
