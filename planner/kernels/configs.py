"""Configurations of a stage: those worth measuring, in the order of what they should take.

    time = waves (ramp + steps max(bytes / rate, operations / rate, latency / stages))

rates being those of a multiprocessor.

A product that loops over its sum moves tiles through shared memory, several steps ahead: how many
bytes are on the way decides, as long as every multiprocessor has a block. One that takes the whole
sum at once waits for one latency only, and its weights are on their way before the kernel in front
has ended: what counts is what a block does with its rows. Measured on an H200 over 19 products of
four models in 2,165 ways (2026-11-27): few blocks of 4 warps and 16 rows are best; a sum split
over the warps takes 0.5 us longer, over eight of them 1.7 us.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from planner.kernels.chain_configs import chain, chain_choices, programs
from planner.kernels.pace import SPLIT_US
from planner.kernels.patterns import goes_by_taps, padded, power_of_two
from planner.kernels.plain_configs import flat, of_rows, without_product
from planner.kernels.stage import Config, Kind
from planner.kernels.tiling import Shape

PROCESSORS = 132
"""Multiprocessors of an H100 or H200; smaller devices only run more waves."""
_MANY_BLOCKS = 64
"""Blocks from here on cost something each, whole sums taken."""
MAX_PADDING = 1.34
"""Largest share by which a sum may be padded to a power of two to be taken whole."""
_SHARED_BYTES = 200 * 1024
"""Of a multiprocessor for operand tiles on their way; 227 KiB in all."""
_ACCUMULATORS_PER_THREAD = 64
"""float32 registers of a result tile: more, and what follows the product spills (seen at 128)."""
_MODEST_BYTES = 48 * 1024
"""What every device has for a block, with room for what else its kernel keeps there."""
_L2_BYTES_PER_US = 7.2e6
_SM_BYTES_PER_US = 0.102e6
_LATENCY_US = 0.75
"""From asking for a tile in L2 to having it in shared memory, under load."""
_UNEVEN = 0.2
"""Share of a latency that shows although tiles are on their way: not all of them take the same
(fitted; of a 128 x 4096 x 8192 product over DRAM 36 us with one tile ahead, 24 with four)."""
_RAMP_US = 0.9
"""First addresses, first tile, last store (fitted)."""
_STEP_US = 0.02
"""Instructions of a step apart from its products (fitted)."""
_BESIDE_US = 0.1
"""Each block beside another on its multiprocessor: addresses, masks, stores."""
_CHAIN_US = 0.018
"""One matrix instruction over 16 values of the sum behind another: latency."""
_WHOLE_RAMP_US = 0.75
"""Of a whole sum (fitted, as those below)."""
_ROW_US = 0.0041
"""An element of the rows that a thread loads: these wait for the kernel in front."""
_WARPS_US = 0.2
"""Each four warps beyond the first four."""
_MANY_US = 0.1
"""Each 64 blocks beyond the first 64."""
_SHOWN = 0.3
"""Share of the weights' way that the kernel in front does not hide."""
_WIDE_FLOPS_PER_US, _NARROW_FLOPS_PER_US = 4.2e6, 2.0e6
"""Rate of a multiprocessor with 64 and more rows (wgmma) and with fewer (mma.sync)."""
_ITEM_BYTES = 2
MAX_CANDIDATES = 24


def default_config(shape: Shape, *, companions: int = 1) -> Config:
    """A configuration that fills the chip without measuring anything.

    Args:
        companions: stages of this shape that share the launch.
    """
    if shape.kind is Kind.FLAT:
        return flat(shape)
    return of_rows(shape, companions) if shape.kind is Kind.ROWS else _product(shape, companions)


def candidates(shape: Shape, *, companions: int = 1) -> tuple[Config, ...]:
    """Configurations worth measuring, the default first."""
    first = default_config(shape, companions=companions)
    if shape.kind is not Kind.PRODUCT:
        others = without_product(shape, first)
    elif shape.is_chain:
        others = [c for c in chain_choices(shape) if programs(shape, c.rows, c.columns) >= 8]
    else:
        listed = sorted(_choices(shape), key=lambda c: product_us(shape, c, companions))
        modest = (c for c in listed if _shared_bytes(c, shape) <= _MODEST_BYTES)
        others = [*itertools.islice(modest, 1), *_varied(listed)]
    return tuple(dict.fromkeys((first, *others)))[:MAX_CANDIDATES]


def _varied(listed: list[Config]) -> list[Config]:
    """The best of each tile size, then the next best of each: neighbours in a list are alike."""
    rank: dict[tuple[int, int], int] = {}
    places = []
    for position, config in enumerate(listed):
        tile = config.rows, config.columns
        rank[tile] = rank.get(tile, -1) + 1
        places.append((rank[tile] * 4 + position / 8, config))
    return [config for _, config in sorted(places, key=lambda place: place[0])]


# ---------------------------------------------------------------------- products
def _product(shape: Shape, companions: int) -> Config:
    if shape.is_chain:
        return chain(shape)
    return min(_choices(shape), key=lambda config: product_us(shape, config, companions))


def product_us(shape: Shape, config: Config, companions: int = 1) -> float:
    """What a product should take, its link to the stage in front not counted."""
    blocks = programs(shape, config.rows, config.columns) * companions
    held = min(_resident(config, shape), -(-blocks // PROCESSORS))
    waves = -(-blocks // (PROCESSORS * held))
    rate = min(_SM_BYTES_PER_US, _L2_BYTES_PER_US / min(blocks, PROCESSORS))
    is_wide = config.rows >= 64 and config.warps >= 4
    flops_rate = _WIDE_FLOPS_PER_US if is_wide else _NARROW_FLOPS_PER_US
    depth = min(config.depth, power_of_two(shape.depth))
    moved = (config.rows + config.columns * shape.beside) * depth * _ITEM_BYTES * held / rate
    multiplied = 2 * config.rows * config.columns * shape.beside * depth * held / flops_rate
    chained = depth / 16 / config.split * _CHAIN_US
    steps = -(-padded(shape.depth, shape.run, depth) // depth)
    if steps == 1:
        loaded = _ROW_US * config.rows * depth / (32 * config.warps)
        work = loaded + _BESIDE_US * held + max(multiplied, chained)
        work += _WARPS_US * (config.warps / 4 - 1) + SPLIT_US[config.split] * shape.beside
        many = _MANY_US * max(blocks / _MANY_BLOCKS - 1, 0)
        return _WHOLE_RAMP_US + many + waves * work + (waves - 1 + _SHOWN) * moved
    waiting = _LATENCY_US / (config.pipeline - 1)
    step = max(moved, multiplied, chained, waiting) + _UNEVEN * waiting + _STEP_US * held
    return waves * (_RAMP_US + _BESIDE_US * held + _LATENCY_US + steps * step)


def _resident(config: Config, shape: Shape) -> int:
    """Blocks that a multiprocessor holds at once."""
    by_threads = 2048 // (32 * config.warps)
    registers = 40 + config.rows * config.columns * shape.beside // (32 * config.warps)
    by_registers = 65536 // (registers * 32 * config.warps)
    return max(min(by_threads, by_registers, _SHARED_BYTES // _shared_bytes(config, shape)), 1)


def _shared_bytes(config: Config, shape: Shape) -> int:
    depth = min(config.depth, power_of_two(shape.depth))
    stages = config.pipeline if depth < shape.depth else 1
    return (config.rows + config.columns * shape.beside) * depth * _ITEM_BYTES * stages


def _choices(shape: Shape) -> list[Config]:
    """Every tile that fits: whole sums, sums split over warps, loops of several depths."""
    found: list[Config] = []
    for rows in (16, 32, 64, 128):
        for columns in (16, 32, 64, 128, 256):
            if rows > max(power_of_two(shape.m), 16) or columns > max(power_of_two(shape.n), 16):
                continue
            found += _whole(shape, rows, columns)
            found += _looped(shape, rows, columns)
    if not found and shape.run is not None:  # of runs that no step suits, any depth is gathered
        return _choices(replace(shape, run=None))
    return found or [Config(16, 16, 16)]


def _whole(shape: Shape, rows: int, columns: int) -> Iterator[Config]:
    depth = power_of_two(shape.depth)
    if shape.run is not None and depth > shape.run >= 32:
        return
    if _is_padded(shape) or (rows + columns * shape.beside) * depth * _ITEM_BYTES > _SHARED_BYTES:
        return
    for warps in (4, 8):
        if rows * columns * shape.beside > _ACCUMULATORS_PER_THREAD * 32 * warps:
            continue
        yield Config(rows, columns, depth, 1, warps)
        part = shape.depth // warps
        is_split = shape.depth % warps == 0 and power_of_two(part) == part >= 16
        if rows * columns <= 1024 and is_split:
            yield Config(rows, columns, depth, warps, warps)


def _looped(shape: Shape, rows: int, columns: int) -> Iterator[Config]:
    whole = power_of_two(shape.depth)
    for depth in (16, 32, 64, 128, 256):
        cut = depth >= whole and (shape.run is None or shape.run >= shape.depth)
        is_short = depth < 32 and (shape.run or whole) >= 32
        if cut or (is_short and (shape.run is None or shape.run % 32 == 0)):
            continue
        if shape.run is not None and not _suits(shape.run, depth):
            continue
        for pipeline in (2, 3, 4, 5, 6):
            for warps in (4, 8):
                config = Config(rows, columns, depth, 1, warps, pipeline)
                if pipeline * depth <= 2 * shape.depth and _is_fitting(config, shape):
                    yield config


def _suits(run: int, depth: int) -> bool:
    """Whether steps of this depth go tap by tap, with little padding."""
    return goes_by_taps(run, depth) and depth <= MAX_PADDING * run


def _is_fitting(config: Config, shape: Shape) -> bool:
    per_thread = config.rows * config.columns * shape.beside / (32 * config.warps)
    least = 1024 if config.warps == 8 else 0
    return (
        per_thread <= _ACCUMULATORS_PER_THREAD
        and config.rows * config.columns >= least
        and _shared_bytes(config, shape) <= _SHARED_BYTES
    )


def _is_padded(shape: Shape) -> bool:
    """Whether taking the sum whole would mean much padding."""
    depth = power_of_two(shape.depth)
    return depth > MAX_PADDING * shape.depth and depth > 64
