"""Number formats a layer may take, by the names the field uses."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """How a layer's weights (and activations) are stored and multiplied."""

    FP32 = "fp32"
    """As the model has it: always allowed."""
    TF32 = "tf32"
    """fp32 stored, 19 bits multiplied (NVIDIA GPUs since Ampere)."""
    FP16 = "fp16"
    """Half precision."""
    BF16 = "bf16"
    """Half the bits, the whole exponent."""
    FP8 = "fp8"
    """E4M3 weights and activations (NVIDIA GPUs since Hopper)."""
    INT8 = "int8"
    """8-bit weights and activations, scaled at run time or from calibration: both are tried."""
    INT8_DYNAMIC = "int8_dynamic"
    """8-bit weights; activations scaled at run time."""
    INT8_DYNAMIC_SMOOTH = "int8_dynamic_smooth"
    """The same, with scales of activation channels moved into the weights (SmoothQuant)."""
    INT8_STATIC = "int8_static"
    """8-bit weights; activations scaled from calibration data."""
    INT8_WO = "int8_wo"
    """8-bit weights only, in blocks; activations stay as they are."""
    INT4_WO = "int4_wo"
    """4-bit weights only, in blocks; activations stay as they are."""
    SPARSE_2_4 = "2:4"
    """Two of every four weights are zero (NVIDIA GPUs since Ampere)."""
