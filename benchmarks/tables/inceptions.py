"""Networks whose blocks look at their pixels in several ways side by side: GoogLeNet, Inception v3
and v4, Xception, SqueezeNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from benchmarks.tables.canvas import Canvas, Network
from benchmarks.tables.passes import Pass
from planner.cost.work import Flow, Traffic

_Step: TypeAlias = tuple[int, int | tuple[int, int]]
"""Channels and kernel of one convolution."""
_Branch: TypeAlias = Callable[[Canvas], None]


def _steps(*steps: _Step) -> _Branch:
    """Convolutions behind each other."""

    def run(canvas: Canvas) -> None:
        for channels, kernel in steps:
            canvas.convolve(channels, kernel)

    return run


def _shrunk(*steps: _Step) -> _Branch:
    """Convolutions behind each other, of which the last takes every second pixel, unpadded."""

    def run(canvas: Canvas) -> None:
        _steps(*steps[:-1])(canvas)
        channels, kernel = steps[-1]
        canvas.convolve(channels, kernel, 2, padded=False)

    return run


def _pooled(channels: int) -> _Branch:
    """A mean over windows that leaves all pixels, and a convolution."""

    def run(canvas: Canvas) -> None:
        canvas.found.add(Traffic(canvas.size_bytes, canvas.size_bytes, Flow.REDUCTION))
        canvas.convolve(channels, 1)

    return run


def _halved(canvas: Canvas) -> None:
    canvas.pool(window=3)


def _forked(before: tuple[_Step, ...], *ends: _Step) -> _Branch:
    """Convolutions behind each other, then several side by side."""

    def run(canvas: Canvas) -> None:
        _steps(*before)(canvas)
        canvas.join(*(_steps(end) for end in ends))

    return run


_GOOGLENET: tuple[tuple[tuple[int, int, int, int, int, int], ...], ...] = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        *((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64)),
        *((112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Channels of 1 x 1; before and of 3 x 3; before and of 5 x 5; behind a pool (Szegedy et al. 2015,
table 1)."""


def googlenet(canvas: Canvas) -> Pass:
    """Szegedy et al. 2015."""
    canvas.convolve(64, 7, 2)
    canvas.pool()
    canvas.convolve(64, 1)
    canvas.convolve(192, 3)
    for stage in _GOOGLENET:
        canvas.pool()
        for one, before_three, three, before_five, five, pooled in stage:
            canvas.join(
                _steps((one, 1)),
                _steps((before_three, 1), (three, 3)),
                _steps((before_five, 1), (five, 5)),
                _pooled(pooled),
            )
    return canvas.classify(1000)


def _inception_v3(canvas: Canvas) -> Pass:
    """Szegedy et al. 2016, as its authors released it."""
    canvas.convolve(32, 3, 2, padded=False)
    canvas.convolve(32, 3, padded=False)
    canvas.convolve(64, 3)
    canvas.pool(window=3)
    canvas.convolve(80, 1)
    canvas.convolve(192, 3, padded=False)
    canvas.pool(window=3)
    for pooled in (32, 64, 64):
        wide = _steps((64, 1), (96, 3), (96, 3))
        canvas.join(_steps((64, 1)), _steps((48, 1), (64, 5)), wide, _pooled(pooled))
    canvas.join(_shrunk((384, 3)), _shrunk((64, 1), (96, 3), (96, 3)), _halved)
    row, column = (1, 7), (7, 1)
    for inner in (128, 160, 160, 192):
        short = _steps((inner, 1), (inner, row), (192, column))
        twice = ((inner, column), (inner, row), (inner, column), (192, row))
        canvas.join(_steps((192, 1)), short, _steps((inner, 1), *twice), _pooled(192))
    long = _shrunk((192, 1), (192, row), (192, column), (192, 3))
    canvas.join(_shrunk((192, 1), (320, 3)), long, _halved)
    ends: tuple[_Step, ...] = ((384, (1, 3)), (384, (3, 1)))
    for _ in range(2):
        wide = _forked(((448, 1), (384, 3)), *ends)
        canvas.join(_steps((320, 1)), _forked(((384, 1),), *ends), wide, _pooled(192))
    return canvas.classify(1000)


def _inception_v4(canvas: Canvas) -> Pass:
    """Szegedy et al. 2017, figures 3 to 9."""
    row, column = (1, 7), (7, 1)
    canvas.convolve(32, 3, 2, padded=False)
    canvas.convolve(32, 3, padded=False)
    canvas.convolve(64, 3)
    canvas.join(_halved, _shrunk((96, 3)))
    sides = (((64, 1),), ((64, 1), (64, row), (64, column)))
    canvas.join(*(partial(_unpadded, before) for before in sides))
    canvas.join(_shrunk((192, 3)), _halved)
    for _ in range(4):
        wide = _steps((64, 1), (96, 3), (96, 3))
        canvas.join(_pooled(96), _steps((96, 1)), _steps((64, 1), (96, 3)), wide)
    canvas.join(_shrunk((384, 3)), _shrunk((192, 1), (224, 3), (256, 3)), _halved)
    for _ in range(7):
        short = _steps((192, 1), (224, row), (256, column))
        twice = ((192, row), (224, column), (224, row), (256, column))
        canvas.join(_pooled(128), _steps((384, 1)), short, _steps((192, 1), *twice))
    long = _shrunk((256, 1), (256, row), (320, column), (320, 3))
    canvas.join(_shrunk((192, 1), (192, 3)), long, _halved)
    ends: tuple[_Step, ...] = ((256, (1, 3)), (256, (3, 1)))
    for _ in range(3):
        wide = _forked(((384, 1), (448, (1, 3)), (512, (3, 1))), *ends)
        canvas.join(_pooled(256), _steps((256, 1)), _forked(((384, 1),), *ends), wide)
    return canvas.classify(1000)


def _unpadded(before: tuple[_Step, ...], canvas: Canvas) -> None:
    _steps(*before)(canvas)
    canvas.convolve(96, 3, padded=False)


INCEPTIONS: Mapping[str, tuple[Network, int]] = {
    "3": (_inception_v3, 299),
    "4": (_inception_v4, 299),
}
"""Version -> network and the side of its images."""

_XCEPTION_IN, _XCEPTION_MIDDLE = (128, 256, 728), 8


def xception(canvas: Canvas) -> Pass:
    """Chollet 2017, figure 5."""
    canvas.convolve(32, 3, 2, padded=False)
    canvas.convolve(64, 3, padded=False)
    for width in _XCEPTION_IN:
        _separated(canvas, 2, width, width)
    for _ in range(_XCEPTION_MIDDLE):
        _separated(canvas, 1, 728, 728, 728)
    _separated(canvas, 2, 728, 1024)
    for width in (1536, 2048):
        canvas.depthwise(3)
        canvas.convolve(width, 1)
    return canvas.classify(1000)


def _separated(canvas: Canvas, stride: int, *widths: int) -> None:
    """Depthwise and pointwise convolutions around a shortcut."""
    before = canvas.channels
    for width in widths:
        canvas.filter(canvas.channels, 3, groups=canvas.channels)
        canvas.convolve(width, 1)
    if stride > 1:
        canvas.pool(stride)
        canvas.project(before, stride)
    canvas.add_shortcut()


_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""Channels that each block squeezes into, and of each of its two sides (Iandola et al. 2016)."""


def squeezenet(canvas: Canvas, *, is_later: bool = False) -> Pass:
    """Iandola et al. 2016, table 1.

    Args:
        is_later: version 1.1, which shrinks its images earlier.
    """
    canvas.convolve(64 if is_later else 96, 3 if is_later else 7, 2, padded=False)
    shrinking = (0, 2, 4) if is_later else (0, 3, 7)
    for block, (inner, side) in enumerate(_FIRES):
        if block in shrinking:
            canvas.pool(window=2)  # windows of 3, of which the last may hang over the edge
        canvas.convolve(inner, 1)
        canvas.join(_steps((side, 1)), _steps((side, 3)))
    canvas.convolve(1000, 1)
    return canvas.classify()
