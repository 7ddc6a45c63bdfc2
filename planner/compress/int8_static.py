"""QDQ int8: weights per channel, activations uint8 over calibrated ranges, fused by ONNX Runtime.

Chains pay only while activations stay int8, so the operators between the weighted ones take the
format too: arithmetic with an int8 kernel, and those that only move or select values.

    native -> Q -> DQ -> [Conv] -> Q -> DQ -> [Add] -> Q -> DQ -> native
                   └── one QLinearConv ──┘    └ QLinearAdd ┘

A native neighbour that reads the same tensor as a static operator keeps reading the unrounded one,
unless a static operator made it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto

from planner.compress import element_types, gemm, rounding, surgery
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
from planner.compress.quiet import quiet_tools
from planner.compress.stand_ins import stand_ins
from planner.compress.upgrade import upgrade_opset
from planner.errors import DataError
from planner.ir.graph import Graph, Op

_OPSET = 13
"""The first whose DequantizeLinear takes a scale per channel."""
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_ARITHMETIC = (
    "Add",
    "Mul",
    "Concat",
    "AveragePool",
    "GlobalAveragePool",
    "LeakyRelu",
    "Sigmoid",
    "Softmax",
)
"""ONNX Runtime's CPU provider has a QLinear kernel for each."""
_CLIPS = ("Relu", "Clip")
"""Vanish into the rounding of the tensor before them, at no cost or error; behind a native operator
they stay native themselves."""
_MOVES = (
    "MaxPool",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Split",
    "Gather",
    "Resize",
)
"""Run on the bytes; their output keeps the range of their input."""
_DATA_INPUTS = {"Add": 2, "Mul": 2, "MatMul": 2, "Gemm": 2}


class Int8Static:
    """Static int8 (QDQ)."""

    format = Format.INT8_STATIC

    def pays(self, graph: Graph) -> bool:
        """Whether anything computes in int8; what only clips and moves would round for nothing."""
        computing = (op for op in graph.ops if op.kind in (*_WEIGHTED, *_ARITHMETIC))
        return any(self.check(op, graph) is None for op in computing)

    def check(self, op: Op, graph: Graph) -> str | None:
        """An int8 kernel exists, and everything it would round is float32."""
        if op.kind not in (*_WEIGHTED, *_ARITHMETIC, *_CLIPS, *_MOVES):
            return f"ONNX Runtime has no int8 kernel for {op.kind}"
        reason = why_not_float(op, graph, _data_positions(op))
        if reason is not None:
            return reason
        first = input_tensor(op, 0, graph)
        if first is None or (first.is_constant and op.kind not in ("MatMul", "Add", "Mul")):
            return "its input is a constant"
        if op.kind in ("Conv", "Gemm"):
            return why_not_weighted(op, graph) or _why_not_bias(op, graph)
        return None

    def ranged_tensors(self, op: Op, graph: Graph) -> tuple[str, ...]:
        """Float inputs and outputs that are not constants."""
        reads = [op.inputs[i] for i in _data_positions(op)]
        makes = op.outputs[:1] if op.kind == "MaxPool" else op.outputs
        wanted = dict.fromkeys(name for name in (*reads, *makes) if name)
        return tuple(n for n in wanted if n in graph.tensors and not graph.tensors[n].is_constant)

    def build(
        self, onnx_model: ModelProto, ops: Collection[str], context: BuildContext
    ) -> ModelProto:
        """ONNX Runtime's QDQQuantizer on exactly these operators, with the given ranges."""
        ports = _ports(onnx_model)
        onnx_model = upgrade_opset(onnx_model, _OPSET)
        # What the upgrade rewired has tensors that nobody calibrated: it stays native.
        now = _ports(onnx_model)
        ops = _without_dequantised_moves(onnx_model, [op for op in ops if now.get(op) == ports[op]])
        if not ops:
            return onnx_model
        gemm.normalise(onnx_model, ops)
        gemm.separate_biases(onnx_model, ops)
        element_types.declare_types(onnx_model, context.ranges)
        chosen = {node.name: node for node in onnx_model.graph.node if node.name in ops}
        before = {name: tuple(node.output) for name, node in chosen.items()}
        ranges = _tensor_data(onnx_model, chosen, context.ranges)
        op_types = sorted({node.op_type for node in chosen.values()})
        with quiet_tools():
            from onnxruntime.quantization import QuantType
            from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        with (
            stand_ins(onnx_model, ops, context.folder),
            quiet_tools(),
            surgery.parked_weights(onnx_model, ops),
        ):
            QDQQuantizer(
                onnx_model,
                True,
                context.settings.reduce_range,
                QuantType.QInt8,
                QuantType.QUInt8,
                ranges,
                sorted(ops),
                [],
                op_types,
                {"ForceQuantizeNoInputCheck": True},
            ).quantize_model()
        _restore_native_readers(onnx_model, set(ops))
        context.realised.update(_realised(onnx_model, before))
        return onnx_model

    def simulate(self, call: OpCall, ranges: Mapping[str, Range]) -> OpCall:
        """Activations over their calibrated range, weights per channel, constants by their own."""
        changes: dict[int, Array] = {}
        for i in _data_positions(call.op):
            value = call.inputs[i]
            if value is None:
                continue
            if call.op.kind in _WEIGHTED and call.constant[i]:
                changes[i] = rounding.round_symmetric(value, _weight_axis(call, value))
            elif call.constant[i]:
                changes[i] = rounding.round_by_own_range(value)
            elif call.op.kind not in _CLIPS:
                changes[i] = rounding.round_affine(value, ranges[call.op.inputs[i]])
        return call.replaced(changes)

    def simulate_output(
        self, op: Op, name: str, value: Array, ranges: Mapping[str, Range]
    ) -> Array:
        """Rounded over the calibrated range; operators that move values keep their input's."""
        if value.dtype != np.float32 or op.kind in _CLIPS:
            return value
        if op.kind == "Softmax":
            return rounding.round_affine(value, (0.0, 1.0))
        source = op.inputs[0] if op.kind in (*_MOVES, "AveragePool") else name
        return rounding.round_affine(value, ranges[source])


def _ports(onnx_model: ModelProto) -> dict[str, tuple[str, str]]:
    """Operator -> its first input and output."""
    return {
        node.name: (node.input[0] if node.input else "", node.output[0])
        for node in onnx_model.graph.node
    }


def _data_positions(op: Op) -> range:
    if op.kind == "Concat":
        return range(len(op.inputs))
    return range(min(_DATA_INPUTS.get(op.kind, 2 if op.kind == "Conv" else 1), len(op.inputs)))


def _weight_axis(call: OpCall, value: Array) -> int | None:
    if call.op.kind == "Conv":
        return 0
    if call.op.kind == "Gemm":
        return 0 if call.attributes.get("transB", 0) else 1
    return 1 if value.ndim > 1 else None


def _why_not_bias(op: Op, graph: Graph) -> str | None:
    bias = input_tensor(op, 2, graph)
    if bias is None:
        return None
    if not bias.is_constant:
        return "its bias is computed at run time"
    if bias.shape is not None and len(bias.shape) == 2 and bias.shape[0] > 1:
        return "its bias is a matrix"
    return None


def _tensor_data(
    onnx_model: ModelProto, chosen: Mapping[str, NodeProto], ranges: Mapping[str, Range]
) -> Any:
    """The ranges as the tool wants them; NaN-free, and every tensor it will ask for is there."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    constants = set(surgery.initialisers(onnx_model))
    for node in chosen.values():
        wanted = [n for n in (*node.input[:1], *node.output[:1]) if n and n not in constants]
        for name in wanted:
            if name in ranges:
                continue
            raise DataError(
                f"no calibrated range of tensor {name!r}",
                where=f"operator {node.name!r}",
                fix="calibrate the tensors that the offer lists before building int8_static",
            )
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: (np.float32(low), np.float32(high)) for name, (low, high) in sorted(ranges.items())},
    )


def _without_dequantised_moves(onnx_model: ModelProto, ops: Collection[str]) -> set[str]:
    """Operators that only move an already dequantised tensor stay as they are.

    Why: ONNX Runtime moves the bytes by itself there, and the tool would wait for ever for a range.
    """
    nodes = onnx_model.graph.node
    made = {n.output[0] for n in nodes if n.op_type == "DequantizeLinear"}
    moves = {n.name for n in nodes if n.op_type in (*_MOVES, "AveragePool") and n.input[0] in made}
    return set(ops) - moves


def _restore_native_readers(onnx_model: ModelProto, ops: set[str]) -> None:
    """Give native readers of a tensor that a native operator made its unrounded value back.

        native -> X -> Q -> DQ -> X' -> static, native    becomes    X' -> static;  X -> native

    The tool calls the rounded value X' where X is an output of the model: the two change names.
    """
    graph = onnx_model.graph
    static_made = {n for node in graph.node if node.name in ops for n in node.output}
    source = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    unrounded = {
        node.output[0]: source[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in source
        and source[node.input[0]] not in static_made
    }
    results = {value.name for value in graph.output}
    swap = {name: other for name, other in unrounded.items() if name in results}
    swap.update({other: name for name, other in swap.items()})
    for node in graph.node:
        for i, name in enumerate(node.input):
            native = node.name not in ops and name in unrounded
            actual = unrounded[name] if native else name
            node.input[i] = swap.get(actual, actual)
        for i, name in enumerate(node.output):
            node.output[i] = swap.get(name, name)


def _realised(onnx_model: ModelProto, before: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Operators whose every output is rounded: they feed a QuantizeLinear, or merged into one."""
    rounded: set[str] = set()
    for node in onnx_model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            rounded.update((node.input[0], node.output[0]))
    present = {node.name: node for node in onnx_model.graph.node}
    for name, outputs in before.items():
        node = present.get(name)
        made = outputs if node is None else tuple(node.output)
        if made and made[0] in rounded:
            yield name
