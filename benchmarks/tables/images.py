"""The kernels of networks over images: residual networks, and transformers over windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.tables.architectures import Transformer, Windows
from benchmarks.tables.graphs import WIDE, Pass, Setting, transformer_pass
from planner.cost.work import ACTIVATION_BYTES, Convolution, Flow, Product, Traffic


def window_pass(model: Windows, at: Setting) -> Pass:
    """One pass of a Swin transformer (Liu et al. 2021): each stage attends within windows, and
    between stages four neighbours become one of twice the width."""
    found = Pass()
    half = at.format if at.format in WIDE else "fp16"
    size = ACTIVATION_BYTES[half]
    side, width = model.resolution // 4, model.width
    found.add(Product(at.batch * side * side, width, 48, format=at.format))
    for stage, (depth, heads) in enumerate(zip(model.depths, model.heads, strict=True)):
        if stage:
            side, width = side // 2, width * 2
            moved = at.batch * side * side * 2 * width * size
            found.add(Traffic(moved, moved, Flow.NORMALISATION, rows=at.batch * side * side))
            found.add(Product(at.batch * side * side, width, 2 * width, format=at.format))
        tokens = model.window**2
        windows = max(1, side * side // tokens)
        layers = Transformer("encoder", depth, width, heads, heads, 4 * width, 0)
        inside = replace(at, batch=at.batch * windows, queries=tokens, keys=tokens)
        found.join(transformer_pass(layers, inside))
        moved = at.batch * side * side * width * size
        found.add(Traffic(moved, moved, Flow.COPY), 2 * depth)
    found.add(Product(at.batch, 1000, width, format=half))
    return found


def residual_pass(
    depths: Sequence[int],
    is_bottleneck: bool,
    batch: int,
    format: str,
    *,
    side: int = 224,
    is_fused: bool = True,
) -> Pass:
    """One pass of a ResNet over square images (He et al. 2015, stride in the 3 x 3)."""
    found = Pass()
    size = ACTIVATION_BYTES[format]

    def convolve(cin: int, cout: int, side: int, kernel: int, stride: int = 1) -> None:
        work = Convolution(batch, cin, cout, side, side, (kernel, kernel), stride, format=format)
        found.add(work)
        if not is_fused:
            moved = batch * cout * side * side * size
            found.add(Traffic(moved, moved, Flow.ELEMENTWISE), 2)

    side = -(-side // 2)
    convolve(3, 64, side, 7, 2)
    pooled, halved = batch * 64 * size, -(-side // 2)
    found.add(Traffic(pooled * side**2, pooled * halved**2, Flow.REDUCTION))
    channels, side = 64, halved
    for stage, blocks in enumerate(depths):
        width = 64 * 2**stage
        out = width * (4 if is_bottleneck else 1)
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            before, side = side, -(-side // stride)
            if is_bottleneck:
                convolve(channels, width, before, 1)
                convolve(width, width, side, 3, stride)
                convolve(width, out, side, 1)
            else:
                convolve(channels, width, side, 3, stride)
                convolve(width, width, side, 3)
            if channels != out:
                convolve(channels, out, side, 1, stride)
            moved = batch * out * side * side * size
            if is_fused:
                found.read_size_bytes += moved
            else:
                found.add(Traffic(2 * moved, moved, Flow.ELEMENTWISE))
            channels = out
    found.add(Traffic(batch * channels * side**2 * size, batch * channels * size, Flow.REDUCTION))
    found.add(Product(batch, 1000, channels, format="fp16" if format not in WIDE else format))
    return found
