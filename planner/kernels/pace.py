"""What a launch takes, from what its blocks do.

    product  link + ramp + rounds (steps max(bytes / rate, products / rate, latency / tiles ahead)
                                   + work) + phases
    other    hard link + rounds (start + work) + phases
    work     operations / rate + elements (latency + 1 / rate), see `planner.kernels.repeats`
    both     + sectors beside what was asked for / rate of L2 + start of every block

Constants: least squares on the logarithm over 392 kernels of 17 families of models at batch 1
on an H200 (driver 580, Triton 3.6, 2026-11-27, run 7 of `benchmarks/notes/small_models.md`), fitted
by `benchmarks/fit_pace.py`, which also says how well families that were left out are predicted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from planner.kernels.patterns import goes_by_taps, padded, power_of_two, taps_and_run
from planner.kernels.repeats import Repeats, repeats
from planner.kernels.source import Part
from planner.kernels.stage import Config, Kind
from planner.ops.nest import Program

_SHARED_BYTES = 200 * 1024
"""Of a multiprocessor for operand tiles; 227 KiB in all."""
_THREADS, _REGISTERS = 2048, 65536
"""Of a multiprocessor."""
_SPARE_REGISTERS = 40
"""Of a thread, beside its part of the result."""
_WARP = 32
SPLIT_US = {1: 0.0, 2: 0.49, 4: 0.47, 8: 1.68}
"""Adding the parts of a sum split over so many groups of warps, each product (fitted)."""
_WIDE_ROWS, _WIDE_WARPS = 64, 4
"""Tiles from here on use the matrix instructions of a whole warp group."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one multiprocessor of a device, in microseconds; the defaults are an H200's."""

    ramp_us: float = 0.139
    """A product's first tile and last store, beyond the link."""
    tile_us: float = 0.474
    """From asking for a tile of an operand to having it."""
    chain_us: float = 0.0259
    """A matrix instruction behind another."""
    row_us: float = 0.00182
    """An element of the rows that a thread loads where the sum is taken whole: they wait for the
    kernel in front."""
    shown: float = 0.0291
    """Share of an operand's way that the kernel in front does not hide, the sum taken whole."""
    wider_us: float = 0.158
    """Each four warps beyond the first four, the sum taken whole."""
    wide_us_per_flop: float = 1 / 4.2e6
    narrow_us_per_flop: float = 1 / 0.917e6
    byte_us: float = 1 / 0.102e6
    """Operand tiles (measured, `h200_constants.json`)."""
    worked_us: float = 3.24e-06
    """An operation on a value."""
    looped: float = 1.17
    """How much longer work takes in every step of a loop: nothing is loaded ahead of it."""
    element_us: float = 0.00444
    """An element that a thread loads for itself: latency that is not hidden."""
    gathered_us: float = 1.76e-05
    """The same, by rate."""
    phase_us: float = 0.104
    """A reduction inside a product stage, beyond the product itself."""
    row_phase_us: float = 0.0497
    """A reduction in a stage of rows."""
    round_us: float = 0.11
    """A round of blocks of a stage without product."""
    block_us: float = 0.101
    """Starting a block."""
    sector_us: float = 1 / 3.44e6
    """A byte that comes along unasked, on the whole chip."""

    def slowed(self, factor: float, wider: float) -> Pace:
        """The same at a clock that is this much slower.

        Products keep theirs: `Chip.product_factor`, from the peak, holds the clock already.

        Args:
            wider: what the whole chip moves, in units of this one: multiprocessors times clock.
        """
        own = [
            field.name
            for field in fields(self)
            if field.name.endswith("_us") and field.name != "sector_us"
        ]
        changed = {name: getattr(self, name) * factor for name in own}
        return replace(self, **changed, sector_us=self.sector_us / wider)


@dataclass(frozen=True, slots=True)
class Chip:
    """What a launch runs on."""

    link_us: float
    """From the stage in front, where a product follows."""
    hard_link_us: float
    """The same, where little follows."""
    l2_bytes_per_us: float
    units: int
    """Multiprocessors."""
    pace: Pace
    product_factor: float = 1.0
    """How much longer a multiprocessor multiplies than an H200's does in float16."""


@dataclass(frozen=True, slots=True)
class Block:
    """What a block of a part is and does."""

    kind: Kind
    config: Config
    programs: int
    depth: int
    """Of the anchor's sum; 1 without."""
    work: Repeats


def block_of(program: Program, part: Part) -> Block:
    """Counted from the program; O(nests inside)."""
    depth = 1
    if part.anchor is not None:
        nest = program.by_name[part.anchor]
        depth = math.prod(var.extent for var in nest.reduce_axes)
        run = taps_and_run(nest)
        if run is not None and goes_by_taps(run, part.tiling.config.depth):
            depth = padded(depth, run, part.tiling.config.depth)
    tiling = part.tiling
    return Block(tiling.kind, tiling.config, tiling.programs, depth, repeats(program, part))


def launch_us(blocks: Sequence[Block], chip: Chip, item_bytes: int) -> float:
    """Parts side by side: the slowest of them, and what all of them ask of the whole chip.

    Args:
        item_bytes: of an element of a product's operands.
    """
    total = sum(block.programs for block in blocks)
    warps = max(block.config.warps for block in blocks)
    own = max(_own_us(block, total, warps, chip, item_bytes) for block in blocks)
    unasked = sum(block.work.unasked_bytes(item_bytes) * block.programs for block in blocks)
    pace = chip.pace
    return own + unasked * pace.sector_us + pace.block_us * total / chip.units


def _own_us(block: Block, total: int, warps: int, chip: Chip, item_bytes: int) -> float:
    pace = chip.pace
    is_product = block.kind is Kind.PRODUCT
    held = min(_resident(block, warps, item_bytes), -(-total // chip.units))
    rounds = -(-total // (chip.units * held))
    each = block.work.gathered / (_WARP * warps)
    work = block.work.worked * held * pace.worked_us
    work += each * pace.element_us + block.work.gathered * held * pace.gathered_us
    if not is_product:
        phases = block.work.chained * pace.row_phase_us if block.kind is Kind.ROWS else 0.0
        return chip.hard_link_us + rounds * (pace.round_us + work) + phases
    _, steps = _steps(block)
    step = _step_us(block, held, item_bytes * max(chip.pace.byte_us, _share_us(total, chip)), chip)
    work *= pace.looped if steps > 1 else 1.0
    phases = pace.phase_us * max(block.work.chained - 1, 0)
    return chip.link_us + pace.ramp_us + rounds * (steps * step + work) + phases


def _share_us(total: int, chip: Chip) -> float:
    """A byte of L2 where so many blocks read at once."""
    return min(total, chip.units) / chip.l2_bytes_per_us


def _step_us(block: Block, held: int, item_us: float, chip: Chip) -> float:
    """One tile of both operands: moved (`item_us` an element), multiplied, or waited for."""
    depth, steps = _steps(block)
    pace, config = chip.pace, block.config
    is_wide = config.rows >= _WIDE_ROWS and config.warps >= _WIDE_WARPS
    per_flop = pace.wide_us_per_flop if is_wide else pace.narrow_us_per_flop
    products = max(round(block.work.multiplied / (config.rows * config.columns * block.depth)), 1)
    moved = (config.rows + config.columns * products) * depth * held * item_us
    multiplied = 2 * block.work.multiplied / steps * held * per_flop * chip.product_factor
    chained = depth / 16 / config.split * pace.chain_us
    if steps == 1:
        loaded = config.rows * depth / (_WARP * config.warps) * pace.row_us
        added = SPLIT_US.get(config.split, 0.0) * products
        wider = max(config.warps / 4 - 1, 0.0) * pace.wider_us
        return pace.shown * moved + loaded + added + wider + max(multiplied, chained)
    return max(moved, multiplied, chained, pace.tile_us / max(config.pipeline - 1, 1))


def _steps(block: Block) -> tuple[int, int]:
    depth = min(block.config.depth, power_of_two(block.depth))
    return depth, -(-block.depth // depth)


def _resident(block: Block, warps: int, item_bytes: int) -> int:
    """Blocks that a multiprocessor holds at once."""
    threads = _WARP * warps
    if block.kind is not Kind.PRODUCT:
        return max(_THREADS // threads, 1)
    config = block.config
    depth, steps = _steps(block)
    registers = _SPARE_REGISTERS + config.rows * config.columns // threads
    tiles = config.pipeline if steps > 1 else 1
    shared = (config.rows + config.columns) * depth * item_bytes * tiles
    held = min(_THREADS // threads, _REGISTERS // (registers * threads), _SHARED_BYTES // shared)
    return max(held, 1)
