"""Networks for small devices, of depthwise convolutions: MobileNets, MnasNet, ShuffleNets."""

from __future__ import annotations

import re
from functools import partial
from typing import TypeAlias

from benchmarks.tables.canvas import Canvas, Network
from benchmarks.tables.passes import Pass
from planner.cost.work import Flow, Traffic

Plan: TypeAlias = tuple[tuple[int, int, int, int, int], ...]
"""Widening, kernel, channels, blocks, stride of each stage."""


def eighths(channels: float) -> int:
    """The nearest multiple of eight that is no tenth smaller."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def _mobilenet(width: float, canvas: Canvas) -> Pass:
    """Howard et al. 2017, table 1.

    Args:
        width: of all channels.
    """
    canvas.convolve(eighths(32 * width), 3, 2)
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5)
    for channels, stride in (*plan, (1024, 2), (1024, 1)):
        canvas.depthwise(3, stride)
        canvas.convolve(eighths(channels * width), 1)
    return canvas.classify(1000)


def inverted(
    canvas: Canvas, wide: int, channels: int, kernel: int, stride: int, squeezed: int
) -> None:
    """A block that is wide inside (Sandler et al. 2018).

    Args:
        squeezed: channels that it weighs its own by; 0: it does not.
    """
    before = canvas.channels
    if wide != before:
        canvas.convolve(wide, 1)
    canvas.depthwise(kernel, stride)
    if squeezed:
        canvas.squeeze(squeezed)
    canvas.convolve(channels, 1)
    if stride == 1 and before == channels:
        canvas.add_shortcut()


def _staged(plan: Plan, width: float, canvas: Canvas) -> None:
    for widen, kernel, channels, blocks, stride in plan:
        wide = eighths(channels * width)
        for block in range(blocks):
            inner = canvas.channels * widen
            inverted(canvas, inner, wide, kernel, 1 if block else stride, 0)


_MOBILENET_V2: Plan = (
    *((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 3, 32, 3, 2), (6, 3, 64, 4, 2)),
    *((6, 3, 96, 3, 1), (6, 3, 160, 3, 2), (6, 3, 320, 1, 1)),
)
"""Sandler et al. 2018, table 2."""
_MNASNET: Plan = (
    *((3, 3, 24, 3, 2), (3, 5, 40, 3, 2), (6, 5, 80, 3, 2)),
    *((6, 3, 96, 2, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1)),
)
"""Tan et al. 2019, figure 7: behind one separated convolution of 16 channels."""


def _mobilenet_v2(width: float, canvas: Canvas) -> Pass:
    canvas.convolve(eighths(32 * width), 3, 2)
    _staged(_MOBILENET_V2, width, canvas)
    canvas.convolve(eighths(1280 * max(1.0, width)), 1)
    return canvas.classify(1000)


def _mnasnet(width: float, canvas: Canvas) -> Pass:
    canvas.convolve(eighths(32 * width), 3, 2)
    canvas.depthwise(3)
    canvas.convolve(eighths(16 * width), 1)
    _staged(_MNASNET, width, canvas)
    canvas.convolve(1280, 1)
    return canvas.classify(1000)


_LARGE = (
    *((3, 16, 16, 0, 1), (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 1, 2)),
    *((5, 120, 40, 1, 1), (5, 120, 40, 1, 1), (3, 240, 80, 0, 2), (3, 200, 80, 0, 1)),
    *((3, 184, 80, 0, 1), (3, 184, 80, 0, 1), (3, 480, 112, 1, 1), (3, 672, 112, 1, 1)),
    *((5, 672, 160, 1, 2), (5, 960, 160, 1, 1), (5, 960, 160, 1, 1)),
)
_SMALL = (
    *((3, 16, 16, 1, 2), (3, 72, 24, 0, 2), (3, 88, 24, 0, 1), (5, 96, 40, 1, 2)),
    *((5, 240, 40, 1, 1), (5, 240, 40, 1, 1), (5, 120, 48, 1, 1), (5, 144, 48, 1, 1)),
    *((5, 288, 96, 1, 2), (5, 576, 96, 1, 1), (5, 576, 96, 1, 1)),
)
"""Kernel, channels inside and outside, whether they are weighed, stride (Howard et al. 2019, tables
1 and 2)."""


def _mobilenet_v3(
    plan: tuple[tuple[int, int, int, int, int], ...], last: int, width: float, canvas: Canvas
) -> Pass:
    canvas.convolve(eighths(16 * width), 3, 2)
    for kernel, inner, channels, weighed, stride in plan:
        wide = eighths(inner * width)
        squeezed = weighed * eighths(wide / 4)
        inverted(canvas, wide, eighths(channels * width), kernel, stride, squeezed)
    canvas.convolve(6 * canvas.channels, 1)
    return canvas.classify(eighths(last * width), 1000)


_SHUFFLENETS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
"""Width -> channels of stages and of the end (Ma et al. 2018, table 5)."""


def _shufflenet(widths: tuple[int, int, int, int], canvas: Canvas) -> Pass:
    canvas.convolve(24, 3, 2)
    canvas.pool()
    for width, blocks in zip(widths[:3], (4, 8, 4), strict=True):
        for block in range(blocks):
            _shuffled(canvas, width, 1 if block else 2)
    canvas.convolve(widths[3], 1)
    return canvas.classify(1000)


def _shuffled(canvas: Canvas, width: int, stride: int) -> None:
    """Half of the channels through a block and half beside it; then they take turns."""
    half, before, side = width // 2, canvas.channels, canvas.side
    if stride > 1:
        canvas.depthwise(3, stride)
        canvas.convolve(half, 1)
        canvas.side, canvas.channels = side, before
    else:
        canvas.channels = half
    canvas.convolve(half, 1)
    canvas.depthwise(3, stride)
    canvas.convolve(half, 1)
    canvas.channels = width
    canvas.found.add(Traffic(canvas.size_bytes, canvas.size_bytes, Flow.COPY))


_WIDTH = re.compile(r"net(?:[-_ ]?v?\d)?(?:[-_ ](?:large|small))?[-_ ]?x?(\d)[._](\d+)(?!\d)")
_PERCENT = re.compile(r"[-_](035|050|075|100|140)(?!\d)")
_DEEPER = re.compile(r"[-_]\d{3}d(?![a-z\d])|mnasnet[-_ ](?:small|a\d)")
"""Variants with other blocks or more of them: `mobilenetv2_110d`, `mnasnet_a1`, which squeezes."""
_SIDE = 224


def mobile_of(name: str) -> tuple[Network, int] | None:
    """The network that a name in lower case means, and the side of its images; or None."""
    if _DEEPER.search(name):
        return None
    network = _by_width(name, _width(name))
    return (network, _SIDE) if network else None


def _by_width(name: str, width: float) -> Network | None:
    if re.search(r"shufflenet[-_ ]?v?2", name):
        return partial(_shufflenet, _SHUFFLENETS[width]) if width in _SHUFFLENETS else None
    if re.search(r"(?<![a-z])mnasnet", name):
        return partial(_mnasnet, width)
    found = re.search(r"mobilenet[-_ ]?(?:v(\d))?", name)
    if found is None:
        return None
    if found[1] == "3":
        plan, last = (_SMALL, 1024) if "small" in name else (_LARGE, 1280)
        return partial(_mobilenet_v3, plan, last, width)
    networks = {None: _mobilenet, "1": _mobilenet, "2": _mobilenet_v2}
    known = networks.get(found[1])
    return partial(known, width) if known else None


def _width(name: str) -> float:
    """Of all channels, where a name states it: `mobilenet_v2_0.5`, `mobilenetv2_050`."""
    stated, percent = _WIDTH.search(name), _PERCENT.search(name)
    if stated:
        return float(f"{stated[1]}.{stated[2]}")
    return int(percent[1]) / 100 if percent else 1.0
