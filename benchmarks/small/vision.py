"""Convolutional networks of the suite; batch normalisation is folded, as exporters do."""

from __future__ import annotations

import numpy as np
import onnx

from benchmarks.small.graph import GraphWriter


def conv(
    g: GraphWriter, x: str, inputs: int, outputs: int, size: int, *, stride: int = 1, group: int = 1
) -> str:
    """A convolution that keeps the size (divided by the stride), with bias."""
    weight, bias = g.weight(outputs, inputs // group, size, size), g.weight(outputs, scale=0.1)
    pads = [size // 2] * 4
    return g.op("Conv", x, weight, bias, pads=pads, strides=[stride, stride], group=group)


def _relu6(g: GraphWriter, x: str) -> str:
    low, high = (g.constant(np.asarray(v, g.dtype)) for v in (0, 6))
    return g.op("Clip", x, low, high)


def mobilenet_v2(dtype: str, *, batch: int = 1) -> onnx.ModelProto:
    """Sandler et al., CVPR 2018, table 2: (expansion, channels, repeats, stride)."""
    g = GraphWriter("mobilenet_v2", dtype)
    x = _relu6(g, conv(g, g.input("image", batch, 3, 224, 224), 3, 32, 3, stride=2))
    inputs = 32
    rows = (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    )
    for expansion, outputs, repeats, first in rows:
        for index in range(repeats):
            stride, wide, start = first if index == 0 else 1, inputs * expansion, x
            if expansion > 1:
                x = _relu6(g, conv(g, x, inputs, wide, 1))
            x = _relu6(g, conv(g, x, wide, wide, 3, stride=stride, group=wide))
            x = conv(g, x, wide, outputs, 1)
            x = g.op("Add", start, x) if stride == 1 and inputs == outputs else x
            inputs = outputs
    return _classified(g, _relu6(g, conv(g, x, inputs, 1280, 1)), 1280, batch)


def _classified(g: GraphWriter, x: str, width: int, batch: int) -> onnx.ModelProto:
    pooled = g.op("Flatten", g.op("GlobalAveragePool", x), axis=1)
    g.op("Identity", g.gemm(pooled, width, 1000), to="y")
    g.output("y", batch, 1000)
    return g.model()


def efficientnet_b0(dtype: str, *, batch: int = 1) -> onnx.ModelProto:
    """Tan and Le, ICML 2019, table 1: (expansion, channels, repeats, stride, kernel)."""
    g = GraphWriter("efficientnet_b0", dtype)
    x = g.swish(conv(g, g.input("image", batch, 3, 224, 224), 3, 32, 3, stride=2))
    inputs = 32
    rows = (
        *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
        *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
    )
    for expansion, outputs, repeats, first, size in rows:
        for index in range(repeats):
            stride, wide, start = first if index == 0 else 1, inputs * expansion, x
            if expansion > 1:
                x = g.swish(conv(g, x, inputs, wide, 1))
            x = g.swish(conv(g, x, wide, wide, size, stride=stride, group=wide))
            x = conv(g, _squeezed(g, x, wide, max(inputs // 4, 1)), wide, outputs, 1)
            x = g.op("Add", start, x) if stride == 1 and inputs == outputs else x
            inputs = outputs
    return _classified(g, g.swish(conv(g, x, inputs, 1280, 1)), 1280, batch)


def _squeezed(g: GraphWriter, x: str, wide: int, narrow: int) -> str:
    """Squeeze and excitation: channels weighted by what the whole image says."""
    pooled = g.op("GlobalAveragePool", x)
    inner = g.swish(conv(g, pooled, wide, narrow, 1))
    return g.op("Mul", x, g.op("Sigmoid", conv(g, inner, narrow, wide, 1)))


def squeezenet(dtype: str, *, batch: int = 1) -> onnx.ModelProto:
    """SqueezeNet 1.1 (Iandola et al., 2016): fire modules (squeeze, expand)."""
    g = GraphWriter("squeezenet", dtype)
    x = g.op("Relu", conv(g, g.input("image", batch, 3, 224, 224), 3, 64, 3, stride=2))
    x, inputs = _pooled(g, x), 64
    for position, (narrow, wide) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        x = _pooled(g, x) if position in (2, 4) else x
        inner = g.op("Relu", conv(g, x, inputs, narrow, 1))
        parts = [g.op("Relu", conv(g, inner, narrow, wide, size)) for size in (1, 3)]
        x, inputs = g.op("Concat", *parts, axis=1), 2 * wide
    x = g.op("GlobalAveragePool", g.op("Relu", conv(g, x, inputs, 1000, 1)))
    g.op("Flatten", x, to="y", axis=1)
    g.output("y", batch, 1000)
    return g.model()


def _pooled(g: GraphWriter, x: str) -> str:
    return g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])


def unet_denoiser(
    dtype: str, *, frames: int = 64, bins: int = 256, batch: int = 1
) -> onnx.ModelProto:
    """Speech denoiser on a spectrogram: three levels down and up, skips, a mask."""
    g = GraphWriter("unet_denoiser", dtype)
    start = g.input("magnitude", batch, 1, frames, bins)
    x, skips, inputs = start, [], 1
    for width in (16, 32, 64):
        x = g.op("Relu", conv(g, x, inputs, width, 3, stride=2))
        skips.append((x, width))
        inputs = width
    x = g.op("Relu", conv(g, x, inputs, inputs, 3))
    for width, (skip, skipped) in zip((32, 16, 16), reversed(skips), strict=True):
        x = g.op("Concat", x, skip, axis=1)
        weight = g.weight(inputs + skipped, width, 2, 2)
        x = g.op("ConvTranspose", x, weight, g.weight(width, scale=0.1), strides=[2, 2])
        x, inputs = g.op("Relu", x), width
    mask = g.op("Sigmoid", conv(g, x, inputs, 1, 3))
    g.op("Mul", start, mask, to="y")
    g.output("y", batch, 1, frames, bins)
    return g.model()
