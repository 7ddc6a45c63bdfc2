"""Networks over images that are public by name: what they run, layer by layer.

Each is one function of a `Canvas`, written from its publication; `network_of` finds it by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from benchmarks.tables.canvas import Canvas
from benchmarks.tables.graphs import Pass
from planner.cost.work import Flow, Traffic

Network: TypeAlias = Callable[[Canvas], Pass]


def _alexnet(canvas: Canvas) -> Pass:
    """Krizhevsky 2014, as frameworks ship it."""
    canvas.convolve(64, 11, 4)
    canvas.pool()
    canvas.convolve(192, 5)
    canvas.pool()
    for channels in (384, 256, 256):
        canvas.convolve(channels, 3)
    canvas.pool_to(6)
    return canvas.classify(4096, 4096, 1000, pooled=False)


def _vgg(depths: tuple[int, ...], canvas: Canvas) -> Pass:
    """Simonyan and Zisserman 2014, table 1."""
    for channels, depth in zip((64, 128, 256, 512, 512), depths, strict=True):
        for _ in range(depth):
            canvas.convolve(channels, 3)
        canvas.pool()
    canvas.pool_to(7)
    return canvas.classify(4096, 4096, 1000, pooled=False)


def _mobilenet(canvas: Canvas) -> Pass:
    """Howard et al. 2017, table 1."""
    canvas.convolve(32, 3, 2)
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5)
    for channels, stride in (*plan, (1024, 2), (1024, 1)):
        canvas.convolve(canvas.channels, 3, stride, groups=canvas.channels)
        canvas.convolve(channels, 1)
    return canvas.classify(1000)


def _inverted(
    canvas: Canvas, widen: int, channels: int, kernel: int, stride: int, ratio: int
) -> None:
    """A block that is wide inside (Sandler et al. 2018).

    Args:
        ratio: channels of the block over those that it squeezes into; 0: it does not.
    """
    before = canvas.channels
    if widen > 1:
        canvas.convolve(before * widen, 1)
    canvas.convolve(canvas.channels, kernel, stride, groups=canvas.channels)
    if ratio:
        canvas.squeeze(max(1, before // ratio))
    canvas.convolve(channels, 1)
    if stride == 1 and before == channels:
        canvas.add_shortcut()


_MOBILENET_V2 = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
"""Widening, channels, blocks, stride (Sandler et al. 2018, table 2)."""


def _mobilenet_v2(canvas: Canvas) -> Pass:
    canvas.convolve(32, 3, 2)
    for widen, channels, blocks, stride in _MOBILENET_V2:
        for block in range(blocks):
            _inverted(canvas, widen, channels, 3, 1 if block else stride, 0)
    canvas.convolve(1280, 1)
    return canvas.classify(1000)


_EFFICIENTNET = (
    *((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2)),
    *((6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1)),
)
"""Widening, kernel, channels, blocks, stride (Tan and Le 2019, table 1)."""
_SCALES = (
    *((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 300)),
    *((1.4, 1.8, 380), (1.6, 2.2, 456), (1.8, 2.6, 528), (2.0, 3.1, 600)),
)
"""Width, depth and resolution of B0 to B7 (the authors' release)."""


def _efficientnet(width: float, depth: float, canvas: Canvas) -> Pass:
    canvas.convolve(_eighths(32 * width), 3, 2)
    for widen, kernel, channels, blocks, stride in _EFFICIENTNET:
        for block in range(math.ceil(blocks * depth)):
            wide = _eighths(channels * width)
            _inverted(canvas, widen, wide, kernel, 1 if block else stride, 4)
    canvas.convolve(_eighths(1280 * width), 1)
    return canvas.classify(1000)


def _eighths(channels: float) -> int:
    """The nearest multiple of eight that is no tenth smaller."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def _densenet(growth: int, depths: tuple[int, ...], canvas: Canvas) -> Pass:
    """Huang et al. 2017, table 1: each layer reads all that came before it in its block."""
    canvas.convolve(2 * growth, 7, 2)
    canvas.pool()
    for stage, depth in enumerate(depths):
        if stage:
            canvas.convolve(canvas.channels // 2, 1)
            canvas.pool()
        for _ in range(depth):
            before = canvas.channels
            moved = canvas.size_bytes
            canvas.found.add(Traffic(moved, moved, Flow.ELEMENTWISE))
            canvas.convolve(4 * growth, 1)
            canvas.convolve(growth, 3)
            canvas.channels += before
    return canvas.classify(1000)


def _convnext(widths: tuple[int, ...], depths: tuple[int, ...], canvas: Canvas) -> Pass:
    """Liu et al. 2022: depthwise 7 x 7, a norm, and two products with an activation between."""
    canvas.convolve(widths[0], 4, 4)
    for width, depth in zip(widths, depths, strict=True):
        if width != canvas.channels:
            canvas.convolve(width, 2, 2)
        for _ in range(depth):
            canvas.filter(width, 7, groups=width)
            canvas.normalise()
            canvas.convolve(4 * width, 1)
            canvas.filter(width, 1)
            canvas.add_shortcut()
    return canvas.classify(1000)


_VGG = {"11": (1, 1, 2, 2, 2), "13": (2, 2, 2, 2, 2), "16": (2, 2, 3, 3, 3), "19": (2, 2, 4, 4, 4)}
_DENSENET = {
    "121": (32, (6, 12, 24, 16)),
    "161": (48, (6, 12, 36, 24)),
    "169": (32, (6, 12, 32, 32)),
    "201": (32, (6, 12, 48, 32)),
}
_CONVNEXT = {
    "t": ((96, 192, 384, 768), (3, 3, 9, 3)),
    "s": ((96, 192, 384, 768), (3, 3, 27, 3)),
    "b": ((128, 256, 512, 1024), (3, 3, 27, 3)),
    "l": ((192, 384, 768, 1536), (3, 3, 27, 3)),
}
_AROUND = re.compile(
    r"ssd|yolo|r-?cnn|u-?net|retina|det\b|deeplab|fcn|lite|edge|0[._](?:25|35|5|75)"
)
"""Networks that hold one of these and more, or are another's variant."""
_SIDE = 224


_NAMED: tuple[tuple[str, Mapping[str, Network]], ...] = (
    (r"vgg[-_ ]?(\d\d)", {name: partial(_vgg, depths) for name, depths in _VGG.items()}),
    (r"densenet[-_ ]?(\d{3})", {name: partial(_densenet, *at) for name, at in _DENSENET.items()}),
    (r"convnext[-_ ]?([a-z])", {name: partial(_convnext, *at) for name, at in _CONVNEXT.items()}),
    (r"mobilenet[-_ ]?(v\d)", {"v1": _mobilenet, "v2": _mobilenet_v2}),
    (r"mobilenet()", {"": _mobilenet}),
    (r"alexnet()", {"": _alexnet}),
)
"""Name and, in it, the variant -> variant -> network."""


def network_of(name: str) -> tuple[Network, int] | None:
    """The network that a name in lower case means, and the side of its images; or None."""
    if _AROUND.search(name):
        return None
    scaled = re.search(r"efficientnet[-_ ]?b([0-7])(?!\d)", name)
    if scaled:
        width, depth, side = _SCALES[int(scaled[1])]
        return partial(_efficientnet, width, depth), side
    for pattern, variants in _NAMED:
        found = re.search(pattern, name)
        if found:
            network = variants.get(found[1])
            return (network, _SIDE) if network else None
    return None
