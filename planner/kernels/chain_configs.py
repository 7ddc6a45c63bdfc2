"""Configurations of products of products: attention, chains of narrow layers."""

from __future__ import annotations

import math

from planner.kernels.patterns import power_of_two
from planner.kernels.plain_configs import TARGET_PROGRAMS
from planner.kernels.stage import Config
from planner.kernels.tiling import Shape

MAX_WHOLE_PER_WARP = 4096
"""Elements of both operand tiles a warp of a chain may hold with the whole sum at once: 64
registers of a thread in fp16, next to float32 copies of what a normalisation works on."""
WIDE_ROWS = 64
"""Rows from which on the matrix unit takes a tile from shared memory (wgmma)."""
_HALF_A_CHIP = 66
"""Multiprocessors of an H100 or H200, half of them."""


def chain(shape: Shape) -> Config:
    """Tiles as large as still give every multiprocessor one; the held product is whole in it."""
    rows, columns = (min(max(power_of_two(size), 16), 64) for size in (shape.m, shape.n))
    least = [16, 16]
    if shape.whole_rows:
        rows = least[0] = min(max(power_of_two(shape.m), 16), 128)
    else:
        columns = least[1] = min(max(power_of_two(shape.n), 16), 128)
    while programs(shape, rows, columns) < TARGET_PROGRAMS:
        if columns > least[1] and (columns > rows or rows == least[0]):
            columns //= 2
        elif rows > least[0]:
            rows //= 2
        else:
            break
    depth = power_of_two(shape.depth)
    for warps in (4, 8):
        if fits_whole(shape, rows, columns, warps):
            return Config(rows, columns, depth, warps=warps)
    if (wide := _loop_rows(shape)) > rows:
        return Config(wide, columns, min(128, depth), warps=8, pipeline=3)
    return Config(rows, columns, min(64, depth), warps=4, pipeline=3)


def _loop_rows(shape: Shape) -> int:
    """Rows of a product of products that loops over its sum: it makes the held one anew in the loop
    of each of its sums, so that the matrix unit's wide instructions are worth fewer blocks
    (attention over 384 places, 12 heads, H200: the whole BERT 481 us with 64 rows, 8 warps and 128
    places a step, 495 with 4 and 64, 507 with 32 rows, 516 with scores in memory)."""
    rows = min(max(power_of_two(shape.m), 16), WIDE_ROWS)
    is_wide = power_of_two(shape.n) >= WIDE_ROWS
    return rows if is_wide and programs(shape, rows, WIDE_ROWS) >= _HALF_A_CHIP else 16


def chain_choices(shape: Shape) -> list[Config]:
    """Tiles that fit, those of about eight smallest ones first."""
    depth = power_of_two(shape.depth)
    found = []
    for rows in (16, 32, 64, 128):
        for columns in (16, 32, 64, 128):
            if rows > max(power_of_two(shape.m), 16) or columns > max(power_of_two(shape.n), 16):
                continue
            found += [
                Config(rows, columns, depth, 1, warps)
                for warps in (2, 4, 8)
                if fits_whole(shape, rows, columns, max(warps, 4))
                and not (rows >= 64 and columns < 64 and warps < 8)  # wrong by Triton 3.6, H200
            ]
            if depth > 128:
                found += [Config(rows, columns, 64, 1, warps, 3) for warps in (4, 8)]
                found.append(Config(rows, columns, 128, warps=8))
    least = math.prod((16, 16))
    return sorted(found, key=lambda c: abs(math.log2(c.rows * c.columns / least / 8)))


def fits_whole(shape: Shape, rows: int, columns: int, warps: int) -> bool:
    """Whether operand tiles over the whole sum fit the registers of so many warps; what they are
    padded by costs a product of products less than a loop does (16 rows of 80 keys, H200: 4.0 us
    looped, 2.1 whole)."""
    return power_of_two(shape.depth) * (rows + columns) <= MAX_WHOLE_PER_WARP * warps


def programs(shape: Shape, rows: int, columns: int) -> int:
    """Blocks of tiles of this size."""
    return shape.batch * -(-shape.m // rows) * -(-shape.n // columns)
