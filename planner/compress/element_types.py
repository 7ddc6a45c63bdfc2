"""Element types of a model's tensors, declared for tools that ask for them, then forgotten."""

from __future__ import annotations

import math
from collections.abc import Collection

import onnx
from onnx import ModelProto, TensorProto, helper

from planner.compress.surgery import PARKED_ELEMENTS

_INFERRED = ("onnx.infer", "onnxruntime.quant")
"""Metadata entry by which the tools know a model whose types are declared."""


def declare_types(onnx_model: ModelProto, float_names: Collection[str] = ()) -> None:
    """Fill in the element type of every tensor that ONNX can infer, in place.

    `float_names` are known to be float32 (they were calibrated), whatever ONNX says: operators of
    other domains have no inference. Marks the model so that the tools do not infer again.
    """
    graph = onnx_model.graph
    inferred = onnx.shape_inference.infer_shapes(_without_weights(onnx_model))
    values = {value.name: value for value in inferred.graph.value_info}
    outside = {value.name for value in (*graph.input, *graph.output)}
    made = {name for node in graph.node for name in node.output}
    for name in float_names:
        if name in made and name not in outside:
            values.setdefault(name, helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    graph.ClearField("value_info")
    graph.value_info.extend(values[name] for name in sorted(values) if name not in outside)
    if all(entry.key != _INFERRED[0] for entry in onnx_model.metadata_props):
        onnx_model.metadata_props.add(key=_INFERRED[0], value=_INFERRED[1])


def forget_types(onnx_model: ModelProto) -> None:
    """Undo `declare_types`: ONNX Runtime infers them again, and stale shapes would be errors."""
    onnx_model.graph.ClearField("value_info")
    kept = [entry for entry in onnx_model.metadata_props if entry.key != _INFERRED[0]]
    onnx_model.ClearField("metadata_props")
    onnx_model.metadata_props.extend(kept)


def _without_weights(onnx_model: ModelProto) -> ModelProto:
    """A copy whose large weights are inputs: neither they nor the model are copied."""
    bare, graph = ModelProto(), onnx_model.graph
    for whole, part, left_out in (
        (onnx_model, bare, "graph"),
        (graph, bare.graph, "initializer"),
    ):
        for entry, value in whole.ListFields():
            if entry.name != left_out:
                part.MergeFrom(type(part)(**{entry.name: value}))
    declared = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= PARKED_ELEMENTS:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            shape = list(tensor.dims)
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, shape)
            bare.graph.input.append(value)
    return bare
