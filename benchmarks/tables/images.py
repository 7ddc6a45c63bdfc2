"""The kernels of networks over images: residual networks, and transformers over windows."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.tables.architectures import Residual, Transformer, Windows
from benchmarks.tables.canvas import Canvas
from benchmarks.tables.graphs import transformer_pass
from benchmarks.tables.passes import WIDE, Pass, Setting
from planner.cost.work import ACTIVATION_BYTES, Flow, Product, Traffic


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


def residual_pass(model: Residual, canvas: Canvas) -> Pass:
    """One pass of a ResNet over square images (He et al. 2015, stride in the 3 x 3), or of one with
    more or wider groups (Xie et al. 2017, Zagoruyko and Komodakis 2016) or squeezes."""
    canvas.convolve(64, 7, 2)
    canvas.pool()
    for stage, blocks in enumerate(model.depths):
        for block in range(blocks):
            _residual_block(model, canvas, stage, 2 if stage > 0 and block == 0 else 1)
    return canvas.classify(1000)


def _residual_block(model: Residual, canvas: Canvas, stage: int, stride: int) -> None:
    planes, before = 64 * 2**stage, canvas.channels
    if model.is_bottleneck:
        canvas.convolve(planes * model.group_width // 64 * model.groups, 1)
        canvas.convolve(canvas.channels, 3, stride, model.groups)
        canvas.convolve(4 * planes, 1)
    else:
        canvas.convolve(planes, 3, stride)
        canvas.convolve(planes, 3)
    if before != canvas.channels:
        canvas.project(before, stride)
    if model.squeezes:
        canvas.squeeze(canvas.channels // 16)
    canvas.add_shortcut()
