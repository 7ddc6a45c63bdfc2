"""Weight-only blocks (MatMulNBits): smaller weights, fp32 activations outside the kernel.

Accuracy level 4 belongs to the format: the kernel rounds activations to int8 blocks and multiplies
integers. At level 0 it dequantises to fp32 first and is an order of magnitude slower on CPUs.
Block size 32 is the finest ONNX Runtime's fast kernels take and so the most accurate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto, TensorProto

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
from planner.compress.groups import groups_within
from planner.compress.integer_tool import quantise_integer
from planner.compress.quiet import quiet_tools
from planner.compress.upgrade import upgrade_opset
from planner.graph import proto
from planner.ir.graph import Graph, Op

BLOCK_SIZE = 32
"""Weights per scale along K."""
ACCURACY_LEVEL = 4
"""int8 activations inside the kernel."""
_DEQUANTIZE_OPSET = 10
_LARGE_SIZE_BYTES = 1 << 20
_AT_ONCE_SIZE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class WeightOnly:
    """Blocks of `bits`-bit weights."""

    format: Format
    bits: int

    def check(self, op: Op, graph: Graph) -> str | None:
        """MatMul or Gemm of a constant matrix with at least one block along K; table look-ups."""
        if op.kind == "Gather":
            return _why_not_table(op, graph, self.bits)
        if op.kind not in ("MatMul", "Gemm"):
            return f"ONNX Runtime has no weight-only kernel for {op.kind}"
        return (
            why_not_weighted(op, graph)
            or why_not_float(op, graph, range(len(op.inputs)))
            or _why_not_blocks(op, graph)
        )

    def ranged_tensors(self, op: Op, graph: Graph) -> tuple[str, ...]:
        """None."""
        return ()

    def build(
        self, onnx_model: ModelProto, ops: Collection[str], context: BuildContext
    ) -> ModelProto:
        """ONNX Runtime's MatMulNBitsQuantizer on exactly these operators."""
        tables = _gathers(onnx_model, ops) if self.bits == 8 else set()
        onnx_model = _quantise_tables(onnx_model, tables, context)
        ops = set(ops) - tables
        if not ops:
            return onnx_model
        gemm.split_gemms(onnx_model, ops)
        for group in _groups(onnx_model, sorted(ops)):
            surgery.embed(onnx_model, surgery.read_by(onnx_model, group), context.folder)
            self._pack(onnx_model, group)
            _drop_matrices(onnx_model)
        surgery.need_contrib(onnx_model)
        surgery.drop_unused(onnx_model)
        made = {node.name for node in onnx_model.graph.node}
        context.realised.update(op for op in ops if f"{op}_Q{self.bits}" in made)
        return onnx_model

    def _pack(self, onnx_model: ModelProto, ops: Collection[str]) -> None:
        with quiet_tools():
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
        with quiet_tools(), surgery.parked_weights(onnx_model, ops):
            quantizer = MatMulNBitsQuantizer(
                onnx_model,
                bits=self.bits,
                block_size=BLOCK_SIZE,
                is_symmetric=False,
                accuracy_level=ACCURACY_LEVEL,
                nodes_to_include=sorted(ops),
                op_types_to_quantize=("",),
            )
            quantizer.process()

    def simulate(self, call: OpCall, ranges: Mapping[str, Range]) -> OpCall:
        """Blocks of weights along K, blocks of activations along their last axis."""
        if call.op.kind == "Gather":
            table = call.inputs[0]
            if table is None:
                return call
            if self.bits == 8:
                return call.replaced({0: rounding.round_by_own_range(table)})
            return call.replaced({0: rounding.round_weight_blocks(table.T, 4, BLOCK_SIZE).T})
        left, weight = call.inputs[0], call.inputs[1]
        changes: dict[int, Array] = {}
        if left is not None:
            flip = call.attributes.get("transA", 0)
            rounded = rounding.round_activation_blocks(left.T if flip else left, BLOCK_SIZE)
            changes[0] = rounded.T if flip else rounded
        if weight is not None:
            flip = call.attributes.get("transB", 0)
            rounded = rounding.round_weight_blocks(
                weight.T if flip else weight, self.bits, BLOCK_SIZE
            )
            changes[1] = rounded.T if flip else rounded
        return call.replaced(changes)

    def simulate_output(
        self, op: Op, name: str, value: Array, ranges: Mapping[str, Range]
    ) -> Array:
        """Outputs are fp32."""
        return value


def _why_not_blocks(op: Op, graph: Graph) -> str | None:
    weight, left = input_tensor(op, 1, graph), input_tensor(op, 0, graph)
    if weight is None or weight.shape is None or len(weight.shape) != 2:
        return "its weight is not a matrix"
    if left is not None and left.shape is not None and len(left.shape) < 2:
        return "its activation is a vector"
    longest = weight.shape[0] if op.kind == "MatMul" else max(weight.shape)
    if longest < BLOCK_SIZE:
        return f"its weight {list(weight.shape)} is shorter than one block of {BLOCK_SIZE}"
    return None


def _why_not_table(op: Op, graph: Graph, bits: int) -> str | None:
    table = input_tensor(op, 0, graph)
    if table is None or not table.is_constant or table.dtype != "float32":
        return "it does not look up a constant float32 table"
    if table.shape is None or 0 in table.shape:
        return "its table has no elements"
    if bits == 4 and (len(table.shape) != 2 or table.shape[1] % BLOCK_SIZE):
        return f"its table {list(table.shape)} is not a matrix of rows of whole blocks"
    return None


def _groups(onnx_model: ModelProto, ops: Sequence[str]) -> Iterator[list[str]]:
    """Operators whose matrices are in memory together: the tool copies them several times."""
    sizes = {t.name: proto.tensor_size_bytes(t) for t in onnx_model.graph.initializer}
    reads = {n.name: surgery.reads_of(n) for n in onnx_model.graph.node if n.name in ops}

    def size(op: str) -> int:
        return sum(sizes.get(name, 0) for name in reads.get(op, ()))

    return groups_within(ops, size, _AT_ONCE_SIZE_BYTES)


def _drop_matrices(onnx_model: ModelProto) -> None:
    """Large initialisers that nobody reads any more go, without copying those that stay."""
    used = surgery.names_used(onnx_model.graph)
    graph = onnx_model.graph
    for index in range(len(graph.initializer) - 1, -1, -1):
        tensor = graph.initializer[index]
        if tensor.name not in used and proto.tensor_size_bytes(tensor) > _LARGE_SIZE_BYTES:
            del graph.initializer[index]


def _gathers(onnx_model: ModelProto, ops: Collection[str]) -> set[str]:
    return {n.name for n in onnx_model.graph.node if n.op_type == "Gather" and n.name in ops}


def _quantise_tables(
    onnx_model: ModelProto, ops: Collection[str], context: BuildContext
) -> ModelProto:
    """int8 tables, one scale a table: look up first, dequantise the found rows."""
    if not ops:
        return onnx_model
    onnx_model = upgrade_opset(onnx_model, _DEQUANTIZE_OPSET)
    element_types.declare_types(onnx_model, context.ranges)
    quantise_integer(
        onnx_model, ops, ("Gather",), per_channel=False, reduce_range=False, folder=context.folder
    )
    types = {t.name: t.data_type for t in onnx_model.graph.initializer}
    context.realised.update(
        node.name
        for node in onnx_model.graph.node
        if node.name in ops and types.get(node.input[0]) in (TensorProto.INT8, TensorProto.UINT8)
    )
    return onnx_model


INT8_WO = WeightOnly(Format.INT8_WO, 8)
INT4_WO = WeightOnly(Format.INT4_WO, 4)
