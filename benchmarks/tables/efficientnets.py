"""EfficientNets: one network at several widths, depths and resolutions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial

from benchmarks.tables.canvas import Canvas, Network
from benchmarks.tables.mobile import Plan, eighths, inverted
from benchmarks.tables.passes import Pass

_EFFICIENTNET: Plan = (
    *((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2)),
    *((6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1)),
)
"""Tan and Le 2019, table 1."""
_SCALES = (
    *((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 300)),
    *((1.4, 1.8, 380), (1.6, 2.2, 456), (1.8, 2.6, 528), (2.0, 3.1, 600)),
)
"""Width, depth and resolution of B0 to B7 (the authors' release)."""
_LITES = (*((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300)),)
"""The same of lite0 to lite4, whose ends are not scaled and which weigh no channels."""


def _efficientnet(width: float, depth: float, canvas: Canvas, *, is_lite: bool = False) -> Pass:
    ends = 1.0 if is_lite else width
    canvas.convolve(eighths(32 * ends), 3, 2)
    for stage, (widen, kernel, channels, blocks, stride) in enumerate(_EFFICIENTNET):
        is_end = stage in (0, len(_EFFICIENTNET) - 1)
        for block in range(blocks if is_lite and is_end else math.ceil(blocks * depth)):
            before, wide = canvas.channels, eighths(channels * width)
            squeezed = 0 if is_lite else max(1, before // 4)
            inverted(canvas, before * widen, wide, kernel, 1 if block else stride, squeezed)
    canvas.convolve(eighths(1280 * ends), 1)
    return canvas.classify(1000)


_V2S: Mapping[str, tuple[int, Plan, int]] = {
    "s": (
        384,
        (
            *((1, 0, 24, 2, 1), (4, 0, 48, 4, 2), (4, 0, 64, 4, 2)),
            *((4, 3, 128, 6, 2), (6, 3, 160, 9, 1), (6, 3, 256, 15, 2)),
        ),
        24,
    ),
    "m": (
        480,
        (
            *((1, 0, 24, 3, 1), (4, 0, 48, 5, 2), (4, 0, 80, 5, 2), (4, 3, 160, 7, 2)),
            *((6, 3, 176, 14, 1), (6, 3, 304, 18, 2), (6, 3, 512, 5, 1)),
        ),
        24,
    ),
    "l": (
        480,
        (
            *((1, 0, 32, 4, 1), (4, 0, 64, 7, 2), (4, 0, 96, 7, 2), (4, 3, 192, 10, 2)),
            *((6, 3, 224, 19, 1), (6, 3, 384, 25, 2), (6, 3, 640, 7, 1)),
        ),
        32,
    ),
}
"""Side of images, stages, first channels; kernel 0: one plain 3 x 3 widens (Tan and Le 2021, table
4, and the authors' release)."""


def _efficientnet_v2(plan: Plan, first: int, canvas: Canvas) -> Pass:
    canvas.convolve(first, 3, 2)
    for widen, kernel, channels, blocks, stride in plan:
        for block in range(blocks):
            step, inner = 1 if block else stride, canvas.channels * widen
            if kernel:
                inverted(canvas, inner, channels, kernel, step, canvas.channels // 4)
            else:
                _joined(canvas, widen, channels, step)
    canvas.convolve(1280, 1)
    return canvas.classify(1000)


def _joined(canvas: Canvas, widen: int, channels: int, stride: int) -> None:
    """A block whose first two convolutions are one (Tan and Le 2021, figure 2)."""
    before = canvas.channels
    if widen > 1:
        canvas.convolve(before * widen, 3, stride)
        canvas.convolve(channels, 1)
    else:
        canvas.convolve(channels, 3, stride)
    if stride == 1 and before == channels:
        canvas.add_shortcut()


def efficientnet_of(name: str) -> tuple[Network, int] | None:
    """The network that a name in lower case means, and the side of its images; or None."""
    scaled = re.search(r"efficientnet[-_ ]?(b|lite)([0-7])(?!\d)", name)
    if scaled:
        scales = _SCALES if scaled[1] == "b" else _LITES
        if int(scaled[2]) >= len(scales):
            return None
        width, depth, side = scales[int(scaled[2])]
        return partial(_efficientnet, width, depth, is_lite=scaled[1] == "lite"), side
    later = re.search(r"efficientnet[-_ ]?v2[-_ ]?(?:rw[-_ ]?)?([sml])(?![a-z])", name)
    if later:
        side, plan, first = _V2S[later[1]]
        return partial(_efficientnet_v2, plan, first), side
    return None
