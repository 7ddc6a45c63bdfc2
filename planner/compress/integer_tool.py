"""ONNX Runtime's integer quantiser (what `quantize_dynamic` uses), on exactly some operators."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from onnx import ModelProto, TensorProto

from planner.compress import surgery
from planner.compress.quiet import quiet_tools
from planner.compress.stand_ins import stand_ins


def quantise_integer(
    onnx_model: ModelProto,
    ops: Collection[str],
    op_types: Collection[str],
    *,
    per_channel: bool,
    reduce_range: bool,
    folder: Path,
) -> None:
    """Quantise the operators in place; types of all tensors must be declared.

    Why not `quantize_dynamic`: it turns every Gemm of the model, also those that stay native, into
    MatMul + Add, and works through files. The same class constructed as `static` does neither.
    """
    with quiet_tools():
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
        from onnxruntime.quantization.quant_utils import QuantizationMode
    with stand_ins(onnx_model, ops, folder), quiet_tools(), surgery.parked_weights(onnx_model, ops):
        quantizer = ONNXQuantizer(
            onnx_model,
            per_channel,
            reduce_range,
            QuantizationMode.IntegerOps,
            True,
            QuantType.QInt8,
            QuantType.QUInt8,
            None,
            sorted(ops),
            [],
            sorted(op_types),
            {"DefaultTensorType": TensorProto.FLOAT},
        )
        quantizer.static = False
        quantizer.quantize_model()
