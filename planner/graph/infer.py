"""Shape inference that never fails a model: what cannot be inferred stays unknown."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from planner.graph import judge, proto
from planner.graph.stand_ins import inferred

_PRODUCT, _LOOKUP = "com.microsoft::MatMulNBits", "com.microsoft::GatherBlockQuantized"
"""ONNX Runtime's product, and look-up, of weights that are kept in blocks of few bits."""
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
    inferred, notes = _infer(_with_plain_weights(model))
    _restore(model.graph, lifted, added)
    if inferred is None:
        return notes
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)
    for mine, theirs in zip(model.graph.output, inferred.graph.output, strict=True):
        mine.CopyFrom(theirs)
    return notes


def _with_plain_weights(model: ModelProto) -> ModelProto:
    """The model with a product of float matrices, or a look-up in a float table, in place of each
    whose weights are packed: onnx knows only the first, and both make the same shapes. The model
    itself if it has none."""
    if not any(proto.kind(node) in (_PRODUCT, _LOOKUP) for node in model.graph.node):
        return model
    plain = ModelProto()
    plain.CopyFrom(model)
    declared = {value.name: value.type.tensor_type for value in model.graph.input}
    types = {name: value.elem_type for name, value in declared.items()}
    types.update((tensor.name, tensor.data_type) for tensor in model.graph.initializer)
    sizes = {name: [dim.dim_value for dim in v.shape.dim] for name, v in declared.items()}
    sizes.update((tensor.name, list(tensor.dims)) for tensor in model.graph.initializer)
    for node in plain.graph.node:
        shape = _packed_shape(node, types, sizes)
        if shape is None or node.input[_SCALES] not in types:
            continue
        weight = f"{node.output[0]}@weight"
        element = types[node.input[_SCALES]]
        plain.graph.input.append(helper.make_tensor_value_info(weight, element, shape))
        node.CopyFrom(_plain(node, weight))
    return plain


def _plain(node: NodeProto, weight: str) -> NodeProto:
    """The same with its weights as they were."""
    made = list(node.output)
    if proto.kind(node) == _PRODUCT:
        return helper.make_node("MatMul", [node.input[0], weight], made, node.name)
    axis = next((a.i for a in node.attribute if a.name == "gather_axis"), 0)
    return helper.make_node("Gather", [weight, node.input[1]], made, node.name, axis=axis)


def _packed_shape(
    node: NodeProto, types: Mapping[str, int], sizes: Mapping[str, list[int]]
) -> list[int] | None:
    """Of the weights of a packed product or look-up before they were packed; None where the node is
    another, or malformed."""
    kind = proto.kind(node)
    if kind not in (_PRODUCT, _LOOKUP) or len(node.input) <= _SCALES or len(node.output) != 1:
        return None
    said = {attribute.name: attribute.i for attribute in node.attribute}
    shape = [said.get("K", 0), said.get("N", 0)]
    if kind == _LOOKUP:
        shape = list(sizes.get(node.input[0], ()))
        if shape and types[node.input[0]] == TensorProto.UINT8:
            shape[-1] *= 8 // max(said.get("bits", 4), 1)
    return shape if shape and min(shape) > 0 else None


def _infer(model: ModelProto) -> tuple[ModelProto | None, tuple[str, ...]]:
    for data_prop in (True, False):
        try:
            return inferred(model, data_prop=data_prop), ()
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
