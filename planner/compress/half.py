"""fp16: weights stored and operators computed in half precision, cast at the operator's borders.

Why not ONNX Runtime's converter: it turns every tensor between untouched operators into fp16 and
back, so that a mixed plan would round where it promised not to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from planner.compress import rounding, surgery
from planner.compress.base import (
    Array,
    BuildContext,
    Format,
    OpCall,
    Range,
    why_not_float,
    why_not_weighted,
)
from planner.ir.graph import Graph, Op

_KINDS = ("MatMul", "Gemm", "Conv", "ConvTranspose")


class Half:
    """fp16 weights and arithmetic."""

    format = Format.FP16

    def check(self, op: Op, graph: Graph) -> str | None:
        """Weighted float32 operators."""
        if op.kind not in _KINDS:
            return f"{op.kind} gains nothing from fp16 on its own"
        return why_not_weighted(op, graph) or why_not_float(op, graph, range(len(op.inputs)))

    def ranged_tensors(self, op: Op, graph: Graph) -> tuple[str, ...]:
        """None."""
        return ()

    def build(
        self, onnx_model: ModelProto, ops: Collection[str], context: BuildContext
    ) -> ModelProto:
        """Casts around each operator; weights are stored as fp16 once."""
        weights = surgery.initialisers(onnx_model)
        whole = _not_float(onnx_model)
        nodes: list[NodeProto] = []
        cast: dict[str, str] = {}
        for node in onnx_model.graph.node:
            if node.name not in ops:
                nodes.append(node)
                continue
            nodes.extend(_casts_before(onnx_model, node, weights, cast, whole))
            nodes.append(node)
            nodes.extend(_casts_behind(node))
            context.realised.add(node.name)
        onnx_model.graph.ClearField("node")
        onnx_model.graph.node.extend(nodes)
        surgery.drop_unused(onnx_model)
        return onnx_model

    def simulate(self, call: OpCall, ranges: Mapping[str, Range]) -> OpCall:
        """Weights through float16. Activations are not: ONNX Runtime's CPU provider computes in
        fp32 and removes the casts around the operator."""
        return call.replaced(
            {
                i: rounding.round_half(value)
                for i, value in enumerate(call.inputs)
                if value is not None and call.constant[i]
            }
        )

    def simulate_output(
        self, op: Op, name: str, value: Array, ranges: Mapping[str, Range]
    ) -> Array:
        """Unchanged, as the inputs."""
        return value


def _casts_before(
    onnx_model: ModelProto,
    node: NodeProto,
    weights: dict[str, TensorProto],
    cast: dict[str, str],
    whole: Collection[str],
) -> list[NodeProto]:
    """Redirect the node's inputs to fp16 twins; the Cast nodes still missing.

    Args:
        whole: tensors that stay as they are.
    """
    made: list[NodeProto] = []
    for i, name in enumerate(node.input):
        if not name or name in whole:
            continue
        if name not in cast:
            cast[name] = f"{name}__fp16"
            if name in weights:
                half = np.asarray(rounding.round_half(surgery.to_array(weights[name])), np.float16)
                onnx_model.graph.initializer.append(surgery.from_array(half, cast[name]))
            else:
                made.append(
                    helper.make_node(
                        "Cast", [name], [cast[name]], f"{name}/to_fp16", to=TensorProto.FLOAT16
                    )
                )
        node.input[i] = cast[name]
    return made


def _casts_behind(node: NodeProto) -> list[NodeProto]:
    """Casts from what the node makes now to what it made: all of it, for a recurrence makes its
    sequence and its last states."""
    made: list[NodeProto] = []
    for i, name in enumerate(node.output):
        if not name:
            continue
        node.output[i] = f"{name}__fp16_out"
        label = f"{node.name}/to_fp32" + (f"_{i}" if made else "")
        made.append(helper.make_node("Cast", [node.output[i]], [name], label, to=TensorProto.FLOAT))
    return made


def _not_float(onnx_model: ModelProto) -> set[str]:
    """Tensors known to be of another type than float32: lengths of sequences, indices."""
    graph = onnx_model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        types.setdefault(value.name, value.type.tensor_type.elem_type)
    return {name for name, dtype in types.items() if dtype != TensorProto.FLOAT}
