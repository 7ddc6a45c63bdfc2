"""Networks over images that are public by name: what they run, layer by layer.

Each is one function of a `Canvas`, written from its publication; `network_of` finds it by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from benchmarks.tables.canvas import Canvas, Network
from benchmarks.tables.efficientnets import efficientnet_of
from benchmarks.tables.inceptions import INCEPTIONS, googlenet, squeezenet, xception
from benchmarks.tables.mobile import mobile_of
from benchmarks.tables.passes import Pass
from benchmarks.tables.regnets import regnet_of
from benchmarks.tables.yolo import yolo_of
from planner.cost.work import Flow, Traffic


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
    r"ssd|yolo|r-?cnn|u-?net|retina|det\b|deeplab|fcn|edge|minimal|inception[-_ ]?res|squeezebert"
)
"""Networks that hold one of these and more, or are another's variant."""
_NAMED: tuple[tuple[str, Mapping[str, tuple[Network, int]]], ...] = (
    (r"vgg[-_ ]?(\d\d)", {name: (partial(_vgg, depths), 224) for name, depths in _VGG.items()}),
    (
        r"densenet[-_ ]?(\d{3})",
        {name: (partial(_densenet, *at), 224) for name, at in _DENSENET.items()},
    ),
    (
        r"convnext[-_ ]?([a-z])",
        {name: (partial(_convnext, *at), 224) for name, at in _CONVNEXT.items()},
    ),
    (r"alexnet()", {"": (_alexnet, 224)}),
    (r"(?:googlenet|inception[-_ ]?v?1(?!\d))()", {"": (googlenet, 224)}),
    (r"inception[-_ ]?v?([34])(?!\d)", INCEPTIONS),
    (r"xception()(?![\d])", {"": (xception, 299)}),
    (
        r"squeezenet[-_ ]?v?(?:1[._])?([01]|)(?!\d)",
        {name: (partial(squeezenet, is_later=name == "1"), 224) for name in ("", "0", "1")},
    ),
)
"""Name and, in it, the variant -> variant -> network and the side of its images."""


def network_of(name: str) -> tuple[Network, int] | None:
    """The network that a name in lower case means, and the side of its images; or None."""
    detector = yolo_of(name)
    if detector is not None or _AROUND.search(name):
        return detector
    for pattern, variants in _NAMED:
        found = re.search(pattern, name)
        if found:
            return variants.get(found[1])
    return efficientnet_of(name) or mobile_of(name) or regnet_of(name)
