"""Small readers of ONNX protobufs that the rest of this floor shares. No weights are loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

from planner.graph.model import Dim, Port

DEFAULT_DOMAINS = ("", "ai.onnx")
MAX_SIZE_BYTES = 2**62
"""Anything larger overflows the int64 arithmetic of every runtime."""

_RENAMED = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT8E4M3FN": "float8_e4m3fn",
    "FLOAT8E4M3FNUZ": "float8_e4m3fnuz",
    "FLOAT8E5M2": "float8_e5m2",
    "FLOAT8E5M2FNUZ": "float8_e5m2fnuz",
    "FLOAT8E8M0": "float8_e8m0fnu",
    "FLOAT4E2M1": "float4_e2m1fn",
}
"""What is not simply in lower case; the names that NumPy and ml_dtypes use."""
_SUB_BYTE_BITS = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}
_BITS = {
    "float32": 32,
    "float64": 64,
    "float16": 16,
    "bfloat16": 16,
    "bool": 8,
    "int8": 8,
    "uint8": 8,
    "int16": 16,
    "uint16": 16,
    "int32": 32,
    "uint32": 32,
    "int64": 64,
    "uint64": 64,
    "complex64": 64,
    "complex128": 128,
    **_SUB_BYTE_BITS,
}


def read(path: Path) -> ModelProto:
    """The model without its external data."""
    return onnx.load(path, load_external_data=False)


def domain_of(name: str) -> str:
    """`ai.onnx` and the empty string are one domain."""
    return "" if name in DEFAULT_DOMAINS else name


def kind(node: NodeProto) -> str:
    """`op_type`, qualified where the domain is not ONNX's own."""
    domain = domain_of(node.domain)
    return f"{domain}::{node.op_type}" if domain else node.op_type


def label(node: NodeProto) -> str:
    """How a message names an operator: its name, else what it makes."""
    name = node.name or next((name for name in node.output if name), "")
    return f"{kind(node)} {short(name)!r}"


def short(name: str, limit: int = 80) -> str:
    """A name fit for a message: a hostile one may have newlines and 20,000 characters."""
    flat = "".join(letter if letter.isprintable() else "?" for letter in name[: limit + 1])
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def dtype_name(data_type: int) -> str:
    """`FLOAT` -> `float32`; `undefined` for what this onnx does not know."""
    try:
        name = TensorProto.DataType.Name(data_type)
    except ValueError:
        return "undefined"
    return str(_RENAMED.get(name, name.lower()))


def dtype_bits(dtype: str) -> int:
    """Bits of one element as stored; 0 where it has no fixed size (strings)."""
    if dtype.startswith("float8"):
        return 8
    return _BITS.get(dtype, 0)


def size_bytes(dtype: str, shape: Iterable[int]) -> int:
    """Bytes of a dense tensor, sub-byte types packed."""
    return (math.prod(shape) * dtype_bits(dtype) + 7) // 8


def tensor_size_bytes(tensor: TensorProto) -> int:
    """Bytes an initialiser takes, from its dimensions alone."""
    if tensor.data_type == TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return size_bytes(dtype_name(tensor.data_type), tensor.dims)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies of a control-flow operator."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and every body inside it. Depth is bounded by protobuf's own nesting limit."""
    yield graph
    for node in graph.node:
        for body in subgraphs(node):
            yield from graphs(body)


def initialisers(graph: GraphProto) -> Iterator[TensorProto]:
    """Initialisers of the graph and its bodies; the values and indices of sparse ones."""
    for part in graphs(graph):
        yield from part.initializer
        for sparse in part.sparse_initializer:
            yield sparse.values
            yield sparse.indices


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every stored tensor: initialisers, and those in attributes of nodes and functions."""
    yield from initialisers(model.graph)
    for part in graphs(model.graph):
        yield from _attribute_tensors(part.node)
    for function in model.functions:
        yield from _function_tensors(function.node)


def _function_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    nodes = tuple(nodes)
    yield from _attribute_tensors(nodes)
    for node in nodes:
        yield from body_tensors(node)


def body_tensors(node: NodeProto) -> Iterator[TensorProto]:
    """What the bodies of a control-flow operator store: weights and constants."""
    for body in subgraphs(node):
        yield from initialisers(body)
        for part in graphs(body):
            yield from _attribute_tensors(part.node)


def _attribute_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor.values
            yield attribute.sparse_tensor.indices


def captured(node: NodeProto) -> tuple[str, ...]:
    """Tensors that the bodies of a node read from outside, in order of first use."""
    found: dict[str, None] = {}
    for body in subgraphs(node):
        found.update(dict.fromkeys(free_names(body)))
    return tuple(found)


def free_names(graph: GraphProto) -> list[str]:
    """Tensors that a body reads from outside, as often as it does."""
    own = {value.name for value in graph.input}
    own.update(tensor.name for tensor in graph.initializer)
    own.update(sparse.values.name for sparse in graph.sparse_initializer)
    own.update(name for node in graph.node for name in node.output)
    used = [name for node in graph.node for name in (*node.input, *captured(node))]
    used.extend(value.name for value in graph.output)
    return [name for name in used if name and name not in own]


def rename_reads(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    """Renames tensors wherever the graph's operators, bodies and outputs read them."""
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for body in subgraphs(node):
            rename_captured(body, renamed)
    for value in graph.output:
        value.name = renamed.get(value.name, value.name)


def rename_captured(body: GraphProto, renamed: Mapping[str, str]) -> None:
    """Renames what a body reads from outside; names it defines itself are left alone."""
    own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    own.update(name for node in body.node for name in node.output)
    visible = {old: new for old, new in renamed.items() if old not in own}
    if visible:
        rename_reads(body, visible)


def set_shapes(graph: GraphProto, shapes: Mapping[str, tuple[Dim, ...]]) -> None:
    """Declares the shapes of the inputs named here; a dimension given by name is symbolic."""
    for value in graph.input:
        if value.name not in shapes or not value.type.HasField("tensor_type"):
            continue
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        shape.SetInParent()  # an empty message would mean `rank unknown`; a scalar has rank 0
        for size in shapes[value.name]:
            named = isinstance(size, str)
            shape.dim.add(**{"dim_param" if named else "dim_value": size})


def port(value: onnx.ValueInfoProto) -> Port:
    """A declared value as name, dtype and dimensions."""
    if not value.type.HasField("tensor_type"):
        return Port(value.name, _type_name(value.type), None)
    tensor = value.type.tensor_type
    dtype = dtype_name(tensor.elem_type)
    if not tensor.HasField("shape"):
        return Port(value.name, dtype, None)
    return Port(value.name, dtype, tuple(_dim(dim) for dim in tensor.shape.dim))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    """A size, a name, or None; exporters write -1 and `?` for `unknown`."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return dim.dim_param if dim.dim_param.strip("? ") else None


def _type_name(type_: TypeProto) -> str:
    which = type_.WhichOneof("value")
    if which == "tensor_type":
        return dtype_name(type_.tensor_type.elem_type)
    if which == "sequence_type":
        return f"sequence({_type_name(type_.sequence_type.elem_type)})"
    if which == "optional_type":
        return f"optional({_type_name(type_.optional_type.elem_type)})"
    if which == "map_type":
        return f"map({_type_name(type_.map_type.value_type)})"
    return f"{which or 'undefined'}()"
