"""Inputs that choose what a model runs, such as the sampling rate of a voice detector."""

from __future__ import annotations

from onnx import AttributeProto, GraphProto, TensorProto, TypeProto, numpy_helper

from planner.graph.weights import is_external

_KEEPS_VALUE = ("Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity")
_INTEGERS = (TensorProto.INT32, TensorProto.INT64)


def selectors(graph: GraphProto) -> dict[str, int]:
    """Integer inputs of one element -> the first constant that the model compares each with.

    Of all numbers this is the one that a model was made for: other values select the branch for
    something else, or none, and inputs of the first one's shapes need not fit there.
    """
    constants = _constants(graph)
    origin = {value.name: value.name for value in graph.input if _is_one_integer(value.type)}
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in _KEEPS_VALUE and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        if node.op_type != "Equal":
            continue
        for name, other in (node.input, reversed(node.input)):
            if name in origin and other in constants:
                found.setdefault(origin[name], constants[other])
    return found


def _is_one_integer(kind: TypeProto) -> bool:
    tensor = kind.tensor_type
    is_one = all(dim.HasField("dim_value") and dim.dim_value == 1 for dim in tensor.shape.dim)
    return tensor.elem_type in _INTEGERS and is_one


def _constants(graph: GraphProto) -> dict[str, int]:
    """Integer constants of one element in the file itself, stored or made by `Constant`."""
    held = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            held += [(node.output[0], value) for value in map(_tensor, node.attribute) if value]
    return {
        name: int(numpy_helper.to_array(tensor).item())
        for name, tensor in held
        if tensor.data_type in _INTEGERS
        and all(dim == 1 for dim in tensor.dims)
        and not is_external(tensor)
    }


def _tensor(attribute: AttributeProto) -> TensorProto | None:
    return attribute.t if attribute.name == "value" else None
