"""From an ONNX model with static shapes to the language of nests (`planner.ops`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from planner.errors import ModelError
from planner.graph.stand_ins import inferred
from planner.ops.builder import Node
from planner.ops.lower import lower
from planner.ops.nest import Program, TensorType
from planner.ops.partial import in_parts
from planner.ops.summed import in_memory_order
from planner.ops.turned import inputs_turned

Array = np.ndarray[Any, Any]


def read_program(path: Path) -> Program:
    """The program of a bound model file; external data is read.

    Raises:
        NotCovered: an operator has no lowering, or a shape is not static.
        ModelError: the file is not a model.
    """
    return program_of(onnx.load(path))


def program_of(model: ModelProto, *, as_written: bool = False) -> Program:
    """The program of a model in memory (see `read_program`).

    Args:
        as_written: leave sums (`planner.ops.summed`, `planner.ops.partial`) and inputs
            (`planner.ops.turned`) so.
    """
    model = inferred(model)
    graph = model.graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in stored]
    types = static_types(model)
    types.update({n: TensorType(value.dtype.name, value.shape) for n, value in stored.items()})
    unknown = [name for name in inputs if name not in types]
    if unknown:
        raise ModelError(
            f"input {unknown[0]!r} has no static shape", fix="bind its shape with --shapes"
        )
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    nodes = [read_node(node, position, opsets) for position, node in enumerate(graph.node)]
    program = lower(nodes, types, stored, inputs, [value.name for value in graph.output])
    return program if as_written else in_parts(inputs_turned(in_memory_order(program)))[0]


def static_types(model: ModelProto) -> dict[str, TensorType]:
    """Of every tensor whose shape is static."""
    graph = model.graph
    found: dict[str, TensorType] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
            continue
        dims = tensor.shape.dim
        if all(dim.HasField("dim_value") for dim in dims) and tensor.elem_type:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            found[value.name] = TensorType(dtype.name, tuple(dim.dim_value for dim in dims))
    return found


def read_node(node: NodeProto, position: int, opsets: Mapping[str, int]) -> Node:
    """A node free of protobuf."""
    return Node(
        node.name or f"{node.op_type}_{position}",
        node.op_type,
        node.domain,
        tuple(node.input),
        tuple(node.output),
        {item.name: _attribute(item) for item in node.attribute},
        opsets.get(node.domain, 1),
    )


def _attribute(item: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(item)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list | tuple):
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
    return value
