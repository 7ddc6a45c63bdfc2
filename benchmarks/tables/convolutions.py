"""Rows that time one convolution."""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks.tables.precision import format_of
from benchmarks.tables.rows import Row, UnpredictableError, refuse_empty
from planner.cost.work import Convolution

_NAME = re.compile(
    r"(?i)(?<![a-z])(?:depthwise_?|dw_?|group(?:ed)?_?)?conv(?:olution)?(?:2d)?(?![a-z\d])"
)
"""One over images: not of one or three dimensions."""
_NOT_PLAIN = re.compile(r"(?i)transpos|backward|bwd|[dw]_?grad")
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "inputs": ("in_channels", "c_in", "cin", "ic", "ci", "c"),
    "outputs": ("out_channels", "c_out", "cout", "oc", "co", "k"),
    "height": ("height", "h", "ih"),
    "width": ("width", "w", "iw"),
    "rows": ("kernel_size", "kernel", "kh", "r", "filter_h"),
    "columns": ("kw", "s", "filter_w"),
    "stride": ("stride", "stride_h"),
    "padding": ("padding", "pad", "pad_h", "p"),
    "groups": ("groups", "group", "g"),
    "batch": ("batch", "n", "b"),
}
"""What a convolution's price depends on -> its names, cuDNN's single letters among them."""


def convolution_of(row: Row, sizes: Mapping[str, int]) -> Convolution | None:
    """The convolution that a row times; None where its name means no plain one.

    Args:
        sizes: that its name states, by lower case; height and width of its input.

    Raises:
        UnpredictableError: they are incomplete.
    """
    if not _NAME.search(row.model) or _NOT_PLAIN.search(row.model):
        return None
    if sizes.get("dilation", 1) > 1:
        raise UnpredictableError("dilated convolutions are not modelled")
    if "s" in sizes and "r" not in sizes:  # beside a kernel by name; behind R it is a width
        sizes = {"stride": sizes["s"], **sizes, "s": -1}
    if "k" in sizes and any(name in sizes for name in _SPELLINGS["outputs"][:-1]):
        sizes = {"kernel": sizes["k"], **sizes, "k": -1}  # cuDNN's K is another's kernel
    found = {
        key: value for key, names in _SPELLINGS.items() if (value := _first(sizes, names)) >= 0
    }
    square = re.search(r"(\d+)\s*x\s*\1(?!\d)", row.model)
    if "rows" not in found and square:
        found["rows"] = int(square[1])
    if not {"inputs", "outputs", "height", "rows"} <= found.keys():
        raise UnpredictableError("the size of a convolution is not stated")
    batch = found.get("batch") or row.number("batch", 1)
    rows, stride = found["rows"], found.get("stride", 1)
    kernel = (rows, found.get("columns", rows))
    inputs = found["inputs"]
    is_depthwise = re.search(r"(?i)depthwise|(?<![a-z])dw", row.model) is not None
    groups = found.get("groups", inputs if is_depthwise else 1)
    refuse_empty(batch, inputs, found["outputs"], *kernel, stride, groups)
    padding = found.get("padding", rows // 2)
    height, width = (
        (found.get(side, found["height"]) + 2 * padding - size) // stride + 1
        for side, size in zip(("height", "width"), kernel, strict=True)
    )
    refuse_empty(height, width, inputs // groups, found["outputs"] // groups)
    format = format_of(row.precision, row.sparsity)
    return Convolution(
        batch, inputs, found["outputs"], height, width, kernel, stride, groups, format
    )


def _first(sizes: Mapping[str, int], names: tuple[str, ...]) -> int:
    """The first of these sizes that is stated; -1: none is."""
    return next((sizes[name] for name in names if sizes.get(name, -1) >= 0), -1)
