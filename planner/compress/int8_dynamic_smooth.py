"""Dynamic int8 with the scales of activation channels moved into the weights before rounding.

    X -> [/ s] -> DynamicQuantizeLinear -> MatMulInteger(s·W)

Chosen from samples (`smoothing`), folded into what makes X where that costs nothing (`folding`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from onnx import ModelProto

from planner.compress import gemm, shifts
from planner.compress.base import (
    Array,
    BuildContext,
    Format,
    OpCall,
    Range,
    input_tensor,
)
from planner.compress.folding import divide_channels
from planner.compress.int8_dynamic import Int8Dynamic
from planner.compress.upgrade import upgrade_opset
from planner.errors import DataError
from planner.ir.graph import Graph, Op

_OPSET = 11
"""DynamicQuantizeLinear's first."""
_DYNAMIC = Int8Dynamic()


class Int8DynamicSmooth:
    """Dynamic int8 of smoothed activations."""

    format = Format.INT8_DYNAMIC_SMOOTH

    def check(self, op: Op, graph: Graph) -> str | None:
        """A product with a constant matrix."""
        if op.kind not in ("MatMul", "Gemm"):
            return f"{op.kind} has no channels whose scales a matrix could take"
        reason = _DYNAMIC.check(op, graph)
        if reason is not None:
            return reason
        weight = input_tensor(op, 1, graph)
        rank = len(weight.shape or ()) if weight else 0
        return None if rank == 2 else f"its weight has rank {rank}"

    def ranged_tensors(self, op: Op, graph: Graph) -> tuple[str, ...]:
        """None: ranges are found at run time."""
        return ()

    def build(
        self, onnx_model: ModelProto, ops: Collection[str], context: BuildContext
    ) -> ModelProto:
        """Divisions first, then as any dynamic int8."""
        lacking = sorted(set(ops) - set(context.smoothing))
        if lacking:
            raise DataError(
                f"nobody chose what the channels of {lacking[0]!r} are divided by",
                fix=f"plan again: {self.format} needs the shifts of every operator that takes it",
            )
        onnx_model = upgrade_opset(onnx_model, _OPSET)
        gemm.split_gemms(onnx_model, ops)
        asked = {op: context.smoothing[op] for op in ops}
        divide_channels(onnx_model, asked, context.folder)
        return _DYNAMIC.build(onnx_model, ops, context)

    def simulate(self, call: OpCall, ranges: Mapping[str, Range]) -> OpCall:
        """Both sides moved, then rounded as dynamic int8 does."""
        shift = shifts.read(call.shifts)
        activation, weight = call.inputs[0], call.inputs[1]
        changes: dict[int, Array] = {}
        if activation is not None:
            changes[0] = shifts.divided(activation, shift)
        if weight is not None:
            is_turned = call.attributes.get("transB", 0)
            matrix = shifts.multiplied(weight.T if is_turned else weight, shift)
            changes[1] = matrix.T if is_turned else matrix
        return _DYNAMIC.simulate(call.replaced(changes), ranges)

    def simulate_output(
        self, op: Op, name: str, value: Array, ranges: Mapping[str, Range]
    ) -> Array:
        """Outputs are fp32."""
        return value
