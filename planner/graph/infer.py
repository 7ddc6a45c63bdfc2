"""Shape inference that never fails a model: what cannot be inferred stays unknown."""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from planner.graph import judge, proto

_PACKED = "com.microsoft::MatMulNBits"
"""ONNX Runtime's product whose weights are kept in blocks of few bits."""
_SCALES = 2
"""Their slot: the result has their type."""


def annotate(model: ModelProto) -> tuple[str, ...]:
    """Replaces claimed shapes by inferred ones, in place; a note where inference gave up.

    What operators of unknown domains make keeps its claims: nobody can infer those.
    """
    claims = _foreign_claims(model)
    judge.forget_shapes(model.graph)
    model.graph.value_info.extend(claims)
    declared = {value.name for value in model.graph.input}
    lifted = judge.lift_weights(model.graph)
    added = lifted.keys() - declared
    inferred, notes = _infer(_with_plain_products(model))
    _restore(model.graph, lifted, added)
    if inferred is None:
        return notes
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)
    for mine, theirs in zip(model.graph.output, inferred.graph.output, strict=True):
        mine.CopyFrom(theirs)
    return notes


def _with_plain_products(model: ModelProto) -> ModelProto:
    """The model with a product of float matrices in place of each whose weights are packed: onnx
    knows only the first, and both make the same shapes. The model itself if it has none."""
    if not any(proto.kind(node) == _PACKED for node in model.graph.node):
        return model
    plain = ModelProto()
    plain.CopyFrom(model)
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    types.update((tensor.name, tensor.data_type) for tensor in model.graph.initializer)
    for node in plain.graph.node:
        shape = _packed_shape(node)
        if shape is None or node.input[_SCALES] not in types:
            continue
        weight = f"{node.output[0]}@weight"
        element = types[node.input[_SCALES]]
        plain.graph.input.append(helper.make_tensor_value_info(weight, element, shape))
        left = node.input[0]
        node.CopyFrom(helper.make_node("MatMul", [left, weight], list(node.output), node.name))
    return plain


def _packed_shape(node: NodeProto) -> list[int] | None:
    """K and N of a packed product; None where the node is another, or malformed."""
    if proto.kind(node) != _PACKED or len(node.input) <= _SCALES or len(node.output) != 1:
        return None
    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    shape = [sizes.get("K", 0), sizes.get("N", 0)]
    return shape if min(shape) > 0 else None


def _infer(model: ModelProto) -> tuple[ModelProto | None, tuple[str, ...]]:
    for data_prop in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(model, data_prop=data_prop), ()
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
    return None, (f"shapes could not be inferred: {reason}",)


def _restore(graph: GraphProto, lifted: dict[str, onnx.TensorProto], added: set[str]) -> None:
    """Puts the weights back, in their old order."""
    kept = [value for value in graph.input if value.name not in added]
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.extend(reversed(lifted.values()))


def _foreign_claims(model: ModelProto) -> list[onnx.ValueInfoProto]:
    """Declarations of what operators of unknown domains make."""
    foreign = set(judge.foreign_kinds(model))
    if not foreign:
        return []
    made = {
        name for node in model.graph.node if proto.kind(node) in foreign for name in node.output
    }
    graph = model.graph
    return [
        onnx.ValueInfoProto.FromString(value.SerializeToString())
        for value in (*graph.value_info, *graph.output)
        if value.name in made
    ]
