"""Raises a model to a newer operator set with ONNX's converter; names are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import onnx
from onnx import ModelProto, NodeProto, helper

from planner.compress import surgery
from planner.errors import ModelError

_PER_AXIS = ("Softmax", "LogSoftmax", "Hardmax")
_PER_AXIS_OPSET = 13
"""Before it, these work on everything from `axis` on; since then, on `axis` alone."""


def upgrade_opset(onnx_model: ModelProto, minimum: int) -> ModelProto:
    """The model in at least this operator set; nodes that the converter adds get names.

    Raises:
        ModelError: ONNX's converter has no way to that version.
    """
    if surgery.opset_of(onnx_model) >= minimum:
        return onnx_model
    with _per_axis_set_aside(onnx_model, minimum) as aside, _weights_as_inputs(onnx_model):
        try:
            converted = onnx.version_converter.convert_version(onnx_model, minimum)
        except (RuntimeError, ValueError, IndexError) as error:
            version = surgery.opset_of(onnx_model)
            raise ModelError(
                f"ONNX cannot convert this model from opset {version} to {minimum}, which "
                f"compression needs: {' '.join(str(error).split())[:200]}",
                fix="export the model with a newer opset, or set compression.formats to [fp32]",
            ) from None
    names = {tensor.name for tensor in onnx_model.graph.initializer}
    given = {value.name for value in onnx_model.graph.input}
    inputs = [v for v in converted.graph.input if v.name in given or v.name not in names]
    converted.graph.ClearField("input")
    converted.graph.input.extend(inputs)
    for node in converted.graph.node:
        if node.name in aside:
            node.op_type = aside[node.name].op_type
            node.attribute.append(helper.make_attribute("axis", -1))
    surgery.name_nodes(converted.graph)
    return converted


@contextlib.contextmanager
def _weights_as_inputs(onnx_model: ModelProto) -> Iterator[None]:
    """ONNX's converter loses initialisers that are no inputs (the rule before IR version 4)."""
    graph = onnx_model.graph
    known = {value.name for value in graph.input}
    added = [tensor for tensor in graph.initializer if tensor.name not in known]
    graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in added
    )
    try:
        yield
    finally:
        kept = [value for value in graph.input if value.name in known]
        graph.ClearField("input")
        graph.input.extend(kept)


@contextlib.contextmanager
def _per_axis_set_aside(onnx_model: ModelProto, minimum: int) -> Iterator[dict[str, NodeProto]]:
    """Softmax and its kin along the last axis pass the converter disguised as Identity.

    Why: both meanings agree there, but the converter wraps them in Flatten and Reshape, under
    tensor names that nobody else knows.
    """
    aside: dict[str, NodeProto] = {}
    crosses = surgery.opset_of(onnx_model) < _PER_AXIS_OPSET <= minimum
    ranks = _ranks(onnx_model) if crosses else {}
    for node in onnx_model.graph.node:
        if node.op_type not in _PER_AXIS or node.domain not in ("", "ai.onnx"):
            continue
        axis = surgery.attributes_of(node).get("axis", 1)
        if crosses and axis in (-1, ranks.get(node.input[0], 0) - 1):
            aside[node.name] = NodeProto()
            aside[node.name].CopyFrom(node)
            node.op_type = "Identity"
            node.ClearField("attribute")
    try:
        yield aside
    finally:
        for node in onnx_model.graph.node:
            if node.name in aside:
                node.CopyFrom(aside[node.name])


def _ranks(onnx_model: ModelProto) -> dict[str, int]:
    with surgery.parked_weights(onnx_model, ()):
        graph = onnx.shape_inference.infer_shapes(onnx_model).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input)
        if value.type.tensor_type.HasField("shape")
    }
