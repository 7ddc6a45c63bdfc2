"""Detectors of the YOLO families, without the choice among boxes behind them: YOLOv3 (Redmon and
Farhadi 2018), YOLOv5 6.0, YOLOv8 and YOLO11 (Jocher et al. 2020, 2023, 2024) as Ultralytics ships
them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from benchmarks.tables.canvas import Canvas, Network
from benchmarks.tables.mobile import eighths
from benchmarks.tables.passes import Pass
from benchmarks.tables.yolo_blocks import (
    attended,
    bottleneck,
    crossed,
    enlarged,
    halved,
    nested,
    plain,
    pooled,
    split,
)

_CLASSES = 80
"""Of COCO."""
_BINS = 16
"""Of each side's distance (YOLOv8 and later)."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """Of depths and widths; most channels before widths."""

    depth: float
    width: float
    most: int = 1024

    def wide(self, channels: int) -> int:
        return eighths(min(channels, self.most) * self.width)

    def deep(self, blocks: int) -> int:
        return max(1, round(blocks * self.depth))


@dataclass(frozen=True, slots=True)
class _At:
    """A stage: channels before scaling, blocks, and what YOLO11 does there."""

    channels: int
    blocks: int = 3
    adds: bool = True
    nests: bool = False
    share: float = 0.5


def _stage(version: int, scale: _Scale, canvas: Canvas, at: _At) -> None:
    """One stage of blocks of a version."""
    channels = scale.wide(at.channels)
    if version == 5:
        crossed(canvas, channels, channels // 2, scale.deep(at.blocks), 1, adds=at.adds)
    elif version == 8:
        block = partial(plain, adds=at.adds)
        split(canvas, channels, channels // 2, scale.deep(at.blocks), block)
    else:
        is_nested = at.nests or scale.width * scale.depth >= 0.5
        split(
            canvas,
            channels,
            int(channels * at.share),
            scale.deep(2),
            nested if is_nested else halved,
        )


def _backbone(version: int) -> tuple[_At, ...]:
    if version == 11:
        return (
            *(_At(256, share=0.25), _At(512, share=0.25)),
            *(_At(512, nests=True), _At(1024, nests=True)),
        )
    deep = 9 if version == 5 else 6
    return (_At(128), _At(256, 6), _At(512, deep), _At(1024))


def _pyramid(version: int, scale: _Scale, canvas: Canvas) -> Pass:
    """Features at an eighth, a sixteenth and a 32nd of the image's side, down and up again."""
    wide, run = scale.wide, partial(_stage, version, scale)
    canvas.convolve(wide(64), 6 if version == 5 else 3, 2)
    kept: list[int] = []
    shrunk = (128, 256, 512, 1024)
    for channels, at in zip(shrunk, _backbone(version), strict=True):
        canvas.convolve(wide(channels), 3, 2)
        run(canvas, at)
        kept.append(canvas.channels)
    pooled(canvas, wide(1024))
    if version == 11:
        attended(canvas, wide(1024), scale.deep(2))
    beside = []
    for channels, before in ((512, kept[2]), (256, kept[1])):
        if version == 5:
            canvas.convolve(wide(channels), 1)
        beside.append(canvas.channels)
        enlarged(canvas)
        canvas.lay_beside(before)
        run(canvas, _At(channels, adds=False))
    first = canvas.channels
    _head(version, canvas, first)
    for channels, before in ((512, beside[1]), (1024, beside[0])):
        canvas.convolve(wide(channels // 2), 3, 2)
        canvas.lay_beside(before)
        run(canvas, _At(channels, adds=False, nests=channels == 1024))
        _head(version, canvas, first)
    return canvas.found


def _head(version: int, canvas: Canvas, first: int) -> None:
    """Boxes and classes of one size of objects.

    Args:
        first: channels of the finest features.
    """
    channels = canvas.channels
    if version == 5:
        canvas.filter(3 * (_CLASSES + 5), 1)
        canvas.channels = channels
        return
    boxes, kinds = max(16, first // 4, 4 * _BINS), max(first, min(_CLASSES, 100))
    canvas.convolve(boxes, 3)
    canvas.convolve(boxes, 3)
    canvas.filter(4 * _BINS, 1)
    canvas.channels = channels
    for _ in range(2):
        if version == 11:
            canvas.depthwise(3)
        canvas.convolve(kinds, 1 if version == 11 else 3)
    canvas.filter(_CLASSES, 1)
    canvas.channels = channels


def _darknet(canvas: Canvas) -> Pass:
    """YOLOv3: Darknet-53 and its pyramid."""
    canvas.convolve(32, 3)
    for channels, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        canvas.convolve(channels, 3, 2)
        for _ in range(blocks):
            bottleneck(canvas, 1, channels // 2)
    for channels, before in ((512, 512), (256, 256), (128, 0)):
        for _ in range(2):
            canvas.convolve(channels, 1)
            canvas.convolve(2 * channels, 3)
        canvas.convolve(channels, 1)
        canvas.convolve(2 * channels, 3)
        canvas.filter(3 * (_CLASSES + 5), 1)
        canvas.channels = channels
        if before:
            canvas.convolve(channels // 2, 1)
            enlarged(canvas)
            canvas.lay_beside(before)
    return canvas.found


_OLD = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
_SCALES: dict[int, dict[str, _Scale]] = {
    5: {name: _Scale(*at) for name, at in _OLD.items()},
    8: {
        "n": _Scale(0.33, 0.25),
        "s": _Scale(0.33, 0.5),
        "m": _Scale(0.67, 0.75, 768),
        "l": _Scale(1.0, 1.0, 512),
        "x": _Scale(1.0, 1.25, 512),
    },
    11: {
        "n": _Scale(0.5, 0.25),
        "s": _Scale(0.5, 0.5),
        "m": _Scale(0.5, 1.0, 512),
        "l": _Scale(1.0, 1.0, 512),
        "x": _Scale(1.0, 1.5, 512),
    },
}
_NAME = re.compile(r"yolo[-_ ]?v?(5|8|11)[-_ ]?([nsmlx])(?![a-z0-9]|[-_ ](?:seg|pose|cls|obb))")
_SIDE, _DARKNET_SIDE = 640, 416


def yolo_of(name: str) -> tuple[Network, int] | None:
    """The detector that a name in lower case means, and the side of its images; or None: of other
    versions, larger inputs (`yolov5s6`), other tasks."""
    if re.search(r"yolo[-_ ]?v?3(?![-_ ]?(?:tiny|spp|\d|u))", name):
        return _darknet, _DARKNET_SIDE
    found = _NAME.search(name)
    if found is None:
        return None
    version = int(found[1])
    return partial(_pyramid, version, _SCALES[version][found[2]]), _SIDE
