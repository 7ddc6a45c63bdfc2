"""RegNets (Radosavovic et al. 2020): widths of blocks on a line, quantised."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import partial

import numpy as np

from benchmarks.tables.canvas import Canvas, Network
from benchmarks.tables.passes import Pass

_STEM, _STEP = 32, 8
"""Channels of the first convolution; widths are multiples of the step."""
_LINES: Mapping[tuple[str, float], tuple[int, int, float, float, int]] = {
    ("x", 0.2): (13, 24, 36.44, 2.49, 8),
    ("x", 0.4): (22, 24, 24.48, 2.54, 16),
    ("x", 0.6): (16, 48, 36.97, 2.24, 24),
    ("x", 0.8): (16, 56, 35.73, 2.28, 16),
    ("x", 1.6): (18, 80, 34.01, 2.25, 24),
    ("x", 3.2): (25, 88, 26.31, 2.25, 48),
    ("x", 4.0): (23, 96, 38.65, 2.43, 40),
    ("x", 6.4): (17, 184, 60.83, 2.07, 56),
    ("x", 8.0): (23, 80, 49.56, 2.88, 120),
    ("x", 12.0): (19, 168, 73.36, 2.37, 112),
    ("x", 16.0): (22, 216, 55.59, 2.1, 128),
    ("x", 32.0): (23, 320, 69.86, 2.0, 168),
    ("y", 0.2): (13, 24, 36.44, 2.49, 8),
    ("y", 0.4): (16, 48, 27.89, 2.09, 8),
    ("y", 0.6): (15, 48, 32.54, 2.32, 16),
    ("y", 0.8): (14, 56, 38.84, 2.4, 16),
    ("y", 1.6): (27, 48, 20.71, 2.65, 24),
    ("y", 3.2): (21, 80, 42.63, 2.66, 24),
    ("y", 4.0): (22, 96, 31.41, 2.24, 64),
    ("y", 6.4): (25, 112, 33.22, 2.27, 72),
    ("y", 8.0): (17, 192, 76.82, 2.19, 56),
    ("y", 12.0): (19, 168, 73.36, 2.37, 112),
    ("y", 16.0): (18, 200, 106.23, 2.48, 112),
    ("y", 32.0): (20, 232, 115.89, 2.53, 232),
}
"""Kind and 10^9 multiply-adds -> blocks, width of the first, slope, ratio of stages, channels of a
group (appendix, and the authors' release)."""


def regnet_of(name: str) -> tuple[Network, int] | None:
    """The network that a name in lower case means, and the side of its images; or None."""
    found = re.search(r"regnet[-_ ]?([xy])[-_ ]?(\d+(?:[._]\d)?)[-_ ]?([mg])f", name)
    short = re.search(r"regnet[-_ ]?([xy])[-_ ]?(\d{3})(?!\d)", name)
    if found:
        size = float(found[2].replace("_", ".")) / (1000 if found[3] == "m" else 1)
        key = (found[1], size)
    elif short:
        key = (short[1], int(short[2]) / 10)
    else:
        return None
    if key not in _LINES:
        return None
    return partial(_regnet, _LINES[key], squeezes=key[0] == "y"), 224


def _regnet(line: tuple[int, int, float, float, int], canvas: Canvas, *, squeezes: bool) -> Pass:
    canvas.convolve(_STEM, 3, 2)
    for width, depth, group in _stages(*line):
        for block in range(depth):
            _block(canvas, width, group, 1 if block else 2, squeezes=squeezes)
    return canvas.classify(1000)


def _stages(
    depth: int, first: int, slope: float, ratio: float, group: int
) -> list[tuple[int, int, int]]:
    """Width, blocks and channels of a group of each stage (section 3.3, equations 2 to 4)."""
    line = first + slope * np.arange(depth)
    powers = np.round(np.log(line / first) / np.log(ratio))
    widths = (np.round(first * ratio**powers / _STEP) * _STEP).astype(int).tolist()
    found = []
    for width, blocks in Counter(widths).items():
        shared = min(group, width)
        found.append((round(width / shared) * shared, blocks, shared))
    return found


def _block(canvas: Canvas, width: int, group: int, stride: int, *, squeezes: bool) -> None:
    before = canvas.channels
    canvas.convolve(width, 1)
    canvas.convolve(width, 3, stride, groups=width // group)
    if squeezes:
        canvas.squeeze(round(before / 4))
    canvas.convolve(width, 1)
    if before != width or stride > 1:
        canvas.project(before, stride)
    canvas.add_shortcut()
