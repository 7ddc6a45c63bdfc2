"""Rounding of ONNX Runtime's formats in NumPy, bit for bit where its kernels allow.

Notation: x real, q integer, s scale, z zero point; x̂ = s·(q − z), q = clip(round(x/s) + z).
"""

from __future__ import annotations

import math

import numpy as np

from planner.compress.base import Array, Range


def round_affine(value: Array, limits: Range) -> Array:
    """x̂ over 256 levels spanning `limits`, widened to hold 0 (as QuantizeLinear to uint8)."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = np.float32((high - low) / 255)
    if not scale > np.finfo(np.float32).tiny:
        scale = np.float32(1.0)
    zero = np.float32(np.clip(np.round(-low / scale), 0, 255))
    levels = np.asarray(np.rint(value / scale))
    np.clip(levels, -zero, 255 - zero, out=levels)
    levels *= scale
    return levels


def round_by_own_range(value: Array) -> Array:
    """As DynamicQuantizeLinear: the range is the tensor's own minimum and maximum."""
    if not value.size:
        return value
    return round_affine(value, (float(value.min()), float(value.max())))


def round_symmetric(
    weight: Array, axis: int | tuple[int, ...] | None, reduce_range: bool = False
) -> Array:
    """int8 with zero point 0; one scale per index of `axis` (None: one for the tensor)."""
    kept = {axis} if isinstance(axis, int) else set(axis or ())
    reduced = tuple(i for i in range(weight.ndim) if i not in {a % weight.ndim for a in kept})
    top = 64 if reduce_range else 127
    scale = np.abs(weight).max(axis=reduced, keepdims=True) / np.float32(top)
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1.0))
    levels = np.asarray(np.rint(weight / scale))
    np.clip(levels, -top, top, out=levels)
    levels *= scale
    return levels


def round_weight_blocks(weight: Array, bits: int, block_size: int) -> Array:
    """MatMulNBits, asymmetric: blocks along K of a [K, N] weight, each with its own scale and zero
    point over a range that holds 0."""
    rows, columns = weight.shape
    blocks = math.ceil(rows / block_size)
    padded = np.zeros((blocks * block_size, columns), np.float32)
    padded[:rows] = weight
    cube = padded.reshape(blocks, block_size, columns)
    low = np.minimum(cube.min(axis=1, keepdims=True), 0)
    high = np.maximum(cube.max(axis=1, keepdims=True), 0)
    top = np.float32(2**bits - 1)
    scale = (high - low) / top
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    zero = np.clip(np.rint(-low * inverse), 0, top)
    levels = np.rint(cube * inverse + zero)
    np.clip(levels, 0, top, out=levels)
    levels -= zero
    levels *= scale
    result: Array = levels.reshape(padded.shape)[:rows]
    return result


def round_activation_blocks(value: Array, block_size: int) -> Array:
    """MatMulNBits at accuracy level 4: int8 blocks along the last axis, symmetric."""
    length = value.shape[-1]
    blocks = math.ceil(length / block_size)
    padded = np.zeros((*value.shape[:-1], blocks * block_size), np.float32)
    padded[..., :length] = value
    cube = padded.reshape(*value.shape[:-1], blocks, block_size)
    scale = np.abs(cube).max(axis=-1, keepdims=True) / np.float32(127)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    cube = np.rint(cube * inverse) * scale
    result: Array = cube.reshape(padded.shape)[..., :length]
    return result


def round_half(value: Array) -> Array:
    """Through float16; beyond its range the largest finite value, as weights are stored."""
    largest = float(np.finfo(np.float16).max)
    return np.clip(value, -largest, largest).astype(np.float16).astype(np.float32)
