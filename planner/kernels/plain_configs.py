"""Configurations of stages without a product: maps, windows, sums over rows."""

from __future__ import annotations

from planner.kernels.patterns import power_of_two
from planner.kernels.stage import Config, Kind
from planner.kernels.tiling import MAX_ROW, Shape

TARGET_PROGRAMS = 96
"""Blocks a stage should have: most of an H200's 132 multiprocessors, more than half of which
saturate L2 (measured: 66 at 102 GB/s each, 132 at 56)."""
_FLAT_BLOCK = 512
_FLAT_CHOICES = (
    *((64, 2), (128, 4), (256, 4), (256, 8), (512, 8), (128, 1), (128, 2)),
    *((512, 4), (1024, 8), (1024, 4)),
)
_LINE_CHOICES = ((64, 1), (32, 1), (64, 2), (128, 1))
"""Results of a block whose taps are an axis, and warps: with 32 taps 64 values a thread, all on
their way at once. Written out, loads wait for each other in batches as large as registers allow
(31 taps over 64 x 512, H200: 4.6 us written out, 2.7 as an axis)."""
_LINE_RESULTS = 1 << 18
"""Above, so many blocks share a multiprocessor that they hide each other's waits (four sequences of
64 x 512: 712 to 607 us the whole conformer-512, sixteen: 1010 to 1034)."""
_APART_EACH = 128
"""Values that lie apart and that a thread of a sum has on their way (efficientnet-b0, H200: sums of
3,136 places of 144 channels 2.8 us so, 4.7 with a channel a block and 16 values a thread)."""
_APART_VALUES, _APART_ROWS = 2048, (4, 32)
"""Values of a block that sums such rows, and how many rows, least and most: 16 of two bytes fill a
sector."""
_APART_PROGRAMS = 32
"""Blocks below which rows are not taken together."""
_SHARING_ROWS = 1024
"""Elements of a block of rows beside which others run: more blocks than multiprocessors do not pay
(cells of 8 layers: 1.85 us with one row a block, 1.40 with four)."""


def without_product(shape: Shape, first: Config) -> list[Config]:
    """Those worth measuring beside the first."""
    if shape.kind is Kind.FLAT:
        listed = [Config(block, 1, 1, warps=warps) for block, warps in _FLAT_CHOICES]
        return [*_lines(shape)[:2], *listed] if shape.is_line else listed
    if shape.is_apart:
        return [Config(rows, 1, 1, warps=w) for rows in (4, 8, 2, 16, 32, 1) for w in (1, 4, 8)]
    return [
        Config(rows, first.columns, 1, warps=warps) for rows in (1, 2, 4) for warps in (1, 2, 4, 8)
    ]


def flat(shape: Shape) -> Config:
    """Two elements a thread; one where many taps are written out, each with its registers, or where
    there are few (1.5 us with one, 2.5 with four)."""
    if shape.is_line and shape.m <= _LINE_RESULTS:
        return _lines(shape)[0]
    few = -(-shape.m // _FLAT_BLOCK) < TARGET_PROGRAMS
    each = 1 if few or shape.depth > 9 else 2
    block = _FLAT_BLOCK
    while block > 128 and -(-shape.m // block) < TARGET_PROGRAMS:
        block //= 2
    block = min(block, max(power_of_two(shape.m), 32))
    return Config(block, 1, 1, warps=min(max(block // 32 // each, 1), 8))


def _lines(shape: Shape) -> list[Config]:
    """Taps as an axis."""
    taps = power_of_two(shape.depth)
    return [Config(block, 1, taps, warps=warps) for block, warps in _LINE_CHOICES]


def _apart(shape: Shape, rows: int) -> Config:
    """Several rows a block, with as many values of each thread on their way as registers hold."""
    while rows > 1 and shape.m // rows < _APART_PROGRAMS:
        rows //= 2
    warps = rows * power_of_two(shape.depth) // (_APART_EACH * 32)
    return Config(rows, 1, 1, warps=min(max(warps, 1), 8))


def of_rows(shape: Shape, companions: int) -> Config:
    """As many rows a block as leave enough blocks, other launches of the shape beside it."""
    if shape.is_apart:
        least, most = _APART_ROWS
        return _apart(shape, min(max(_APART_VALUES // power_of_two(shape.depth), least), most))
    wide = power_of_two(max(shape.n, min(shape.depth, MAX_ROW)))
    most = 4096 if companions == 1 else _SHARING_ROWS
    rows = 1
    while (
        rows * 2 * wide <= most
        and rows < shape.m
        and -(-shape.m // (rows * 2)) * companions >= TARGET_PROGRAMS
    ):
        rows *= 2
    columns = min(power_of_two(shape.n), MAX_ROW)
    return Config(rows, columns, 1, warps=min(max(rows * wide // 512, 1), 8))
