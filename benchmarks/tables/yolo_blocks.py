"""Blocks of the YOLO families, as Ultralytics names them (C3, C2f, SPPF, C2PSA)."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tables.canvas import Canvas
from planner.cost.work import Flow, Traffic

Block = Callable[[Canvas, int], None]
"""Of so many channels inside."""


def bottleneck(canvas: Canvas, first: int, inner: int, *, adds: bool = True) -> None:
    """Two convolutions, the second 3 x 3 back to as many channels.

    Args:
        first: kernel of the first.
    """
    before = canvas.channels
    canvas.convolve(inner, first)
    canvas.convolve(before, 3)
    if adds:
        canvas.add_shortcut()


def crossed(
    canvas: Canvas, channels: int, inner: int, blocks: int, first: int, *, adds: bool = True
) -> None:
    """C3: two ways, one of them through blocks."""

    def long(side: Canvas) -> None:
        side.convolve(inner, 1)
        for _ in range(blocks):
            bottleneck(side, first, inner, adds=adds)

    canvas.join(long, lambda side: side.convolve(inner, 1))
    canvas.convolve(channels, 1)


def split(canvas: Canvas, channels: int, inner: int, blocks: int, block: Block) -> None:
    """C2f: half of what one convolution makes goes on, and what every block makes is joined."""
    canvas.convolve(2 * inner, 1)
    canvas.channels = inner
    for _ in range(blocks):
        block(canvas, inner)
    canvas.lay_beside((1 + blocks) * inner)
    canvas.convolve(channels, 1)


def enlarged(canvas: Canvas) -> None:
    """Each pixel four times."""
    before = canvas.size_bytes
    canvas.side *= 2
    canvas.found.add(Traffic(before, canvas.size_bytes, Flow.COPY))


def pooled(canvas: Canvas, channels: int) -> None:
    """SPPF: three pools in a row, all joined."""
    inner = canvas.channels // 2
    canvas.convolve(inner, 1)
    canvas.found.add(Traffic(canvas.size_bytes, canvas.size_bytes, Flow.REDUCTION), 3)
    canvas.lay_beside(3 * inner)
    canvas.convolve(channels, 1)


def plain(canvas: Canvas, inner: int, *, adds: bool) -> None:
    bottleneck(canvas, 3, inner, adds=adds)


def halved(canvas: Canvas, inner: int) -> None:
    bottleneck(canvas, 3, inner // 2)


def nested(canvas: Canvas, inner: int) -> None:
    crossed(canvas, inner, inner // 2, 2, 3)


def attended(canvas: Canvas, channels: int, blocks: int) -> None:
    """C2PSA: on half of the channels, attention with 3 x 3 weights on positions, and an inner
    layer. What positions make of each other is a hundredth of the network's work and left out."""
    inner = channels // 2
    canvas.convolve(2 * inner, 1)
    canvas.channels = inner
    for _ in range(blocks):
        canvas.filter(2 * inner, 1)
        canvas.channels = inner
        canvas.filter(inner, 3, groups=inner)
        canvas.filter(inner, 1)
        canvas.convolve(2 * inner, 1)
        canvas.filter(inner, 1)
    canvas.lay_beside(inner)
    canvas.convolve(channels, 1)
