"""int8 weights with activations quantised at run time (DynamicQuantizeLinear): needs no data.

MatMul, Gemm   MatMulInteger, fused by ONNX Runtime to one kernel; weights per column
Conv           ConvInteger; weights per tensor (its kernel takes one scale only)
LSTM           DynamicQuantizeLSTM; weights per channel
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from onnx import ModelProto

from planner.compress import element_types, gemm, rounding
from planner.compress.base import (
    Array,
    BuildContext,
    Format,
    OpCall,
    Range,
    input_tensor,
    why_not_float,
    why_not_weighted,
)
from planner.compress.integer_tool import quantise_integer
from planner.compress.upgrade import upgrade_opset
from planner.ir.graph import Graph, Op

_OPSET = 11
"""DynamicQuantizeLinear's first."""


class Int8Dynamic:
    """Dynamic int8."""

    format = Format.INT8_DYNAMIC

    def check(self, op: Op, graph: Graph) -> str | None:
        """Constant weights of the shape the integer kernels take."""
        if op.kind not in ("MatMul", "Gemm", "Conv", "LSTM"):
            return f"ONNX Runtime has no dynamic int8 kernel for {op.kind}"
        reason = why_not_weighted(op, graph)
        if reason is not None:
            return reason
        if op.kind == "LSTM":
            return _why_not_lstm(op, graph)
        weight = input_tensor(op, 1, graph)
        rank = len(weight.shape or ()) if weight else 0
        if op.kind == "Conv" and rank != 4:
            return f"dynamic int8 convolution is two-dimensional; this weight has rank {rank}"
        if op.kind == "MatMul" and rank < 2:
            return f"its weight has rank {rank}"
        return why_not_float(op, graph, range(len(op.inputs)))

    def ranged_tensors(self, op: Op, graph: Graph) -> tuple[str, ...]:
        """None: ranges are found at run time."""
        return ()

    def build(
        self, onnx_model: ModelProto, ops: Collection[str], context: BuildContext
    ) -> ModelProto:
        """ONNX Runtime's integer quantiser on exactly these operators."""
        onnx_model = upgrade_opset(onnx_model, _OPSET)
        gemm.split_gemms(onnx_model, ops)
        element_types.declare_types(onnx_model, context.ranges)
        quantise_integer(
            onnx_model,
            ops,
            ("MatMul", "Conv", "LSTM"),
            per_channel=True,
            reduce_range=context.settings.reduce_range,
            folder=context.folder,
        )
        made = {node.name for node in onnx_model.graph.node}
        context.realised.update(op for op in ops if f"{op}_quant" in made)
        return onnx_model

    def simulate(self, call: OpCall, ranges: Mapping[str, Range]) -> OpCall:
        """uint8 activations by their own range; int8 weights."""
        activation = call.inputs[0]
        changes: dict[int, Array] = {}
        if activation is not None:
            changes[0] = rounding.round_by_own_range(activation)
        if call.op.kind == "LSTM":
            for position in (1, 2):
                weight = call.inputs[position]
                if weight is not None:
                    changes[position] = rounding.round_symmetric(weight, (0, 1))
            return call.replaced(changes)
        weight = call.inputs[1]
        if weight is not None:
            changes[1] = rounding.round_symmetric(weight, _weight_axis(call))
        return call.replaced(changes)

    def simulate_output(
        self, op: Op, name: str, value: Array, ranges: Mapping[str, Range]
    ) -> Array:
        """Outputs are fp32."""
        return value


def _weight_axis(call: OpCall) -> int | None:
    if call.op.kind == "Conv":
        return None
    return 0 if call.attributes.get("transB", 0) else -1


def _why_not_lstm(op: Op, graph: Graph) -> str | None:
    reason = why_not_weighted(op, graph, 2)
    if reason is not None:
        return reason
    return why_not_float(op, graph, [*range(4), *range(5, len(op.inputs))])
