"""What a schedule should take, and what no schedule could beat: from measured constants.

    stage  = link + phases + max(bytes / L2 rate, operations / rate)
    floor  = launch + max(weights / L2 rate, operations / rate) + D * link; D: contractions in a row

Constants of an H200 (`benchmarks/results/README.md`, 2026-11-23); a stage's own phases are the part
of the measured 2.2 us of a 16 x 256 x 1024 stage that its link (0.85 us) does not explain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planner.kernels.reduce import is_contraction
from planner.kernels.source import Numbers, Part
from planner.kernels.stage import Kind
from planner.kernels.text import ITEM_SIZE_BYTES
from planner.ops.expr import Apply, Expr
from planner.ops.functions import FUNCTIONS
from planner.ops.nest import Program

LAUNCH_US = 2.5
"""Before the first kernel of a graph runs (estimate from the intercepts of the chains measured)."""
LINK_US = 0.85
"""Kernel boundary, dependent launch, weights fetched before the wait (measured)."""
HARD_LINK_US = 0.62
"""The same between empty kernels (measured)."""
PRODUCT_US = 1.3
"""Reading activations, multiplying and storing, once (measured)."""
PHASE_US = 0.3
"""A reduction inside a stage: shuffles and a block barrier (estimate)."""
L2_BYTES_PER_US = 7.2e6
"""L2 read, slices of 4 to 50 MB (measured, lower end)."""
BLOCK_BYTES_PER_US = 0.102e6
"""L2 read of one multiprocessor (measured, lower end)."""
FLOPS_PER_US = {"float16": 3.9e8, "bfloat16": 3.9e8, "float32": 2.6e7}
"""Half of the best rate seen (787 / 52 T/s): small tiles do not reach more."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a whole schedule."""

    predicted_us: float
    floor_us: float
    launches: int
    contractions_in_a_row: int
    """D: the longest chain of contractions of the operator graph."""
    flops: int


def estimate(program: Program, launches: Sequence[Sequence[Part]], numbers: Numbers) -> Estimate:
    """Prediction and floor; O(nests + stages)."""
    rate = FLOPS_PER_US[numbers.product_type]
    flops = sum(nest.points * max(flops_of(nest.body), 1) for nest in program.nests)
    weights = sum(
        program.types[name].size * ITEM_SIZE_BYTES[numbers.storage[name]]
        for name in program.constants
    )
    depth = contractions_in_a_row(program)
    predicted = LAUNCH_US + sum(
        max(stage_us(program, part, numbers) for part in parts) for parts in launches
    )
    floor = LAUNCH_US + max(weights / L2_BYTES_PER_US, flops / rate / 2) + depth * HARD_LINK_US
    return Estimate(predicted, floor, len(launches), depth, flops)


def contractions_in_a_row(program: Program) -> int:
    """The longest chain of contractions."""
    depth: dict[str, int] = {}
    for nest in program.nests:
        before = max((depth.get(name, 0) for name in nest.reads), default=0)
        depth[nest.name] = before + is_contraction(nest)
    return max(depth.values(), default=0)


def stage_us(program: Program, part: Part, numbers: Numbers) -> float:
    """One stage, alone in its launch."""
    inside = [program.by_name[name] for name in (part.stage.root, *part.stage.internal)]
    products = sum(is_contraction(nest) for nest in inside)
    phases = sum(not nest.is_map for nest in inside) - products
    own = PHASE_US * phases + (PRODUCT_US * products or PHASE_US)
    written = sum(_bytes(program, numbers, name) for name in part.stage.makes)
    read = _read_per_block(program, part, numbers)
    in_all = read * part.tiling.programs + written
    memory = max(in_all / L2_BYTES_PER_US, read / BLOCK_BYTES_PER_US)
    flops = sum(nest.points * max(flops_of(nest.body), 1) for nest in inside)
    return LINK_US + own + max(memory, flops / FLOPS_PER_US[numbers.product_type])


def _read_per_block(program: Program, part: Part, numbers: Numbers) -> float:
    """Bytes a block reads: both operand tiles over the whole sum, or its share of everything."""
    if part.tiling.kind is Kind.PRODUCT and part.anchor is not None:
        nest = program.by_name[part.anchor]
        depth = math.prod(var.extent for var in nest.reduce_axes)
        config = part.tiling.config
        return (config.rows + config.columns) * depth * ITEM_SIZE_BYTES[numbers.product_type]
    moved = sum(_bytes(program, numbers, name) for name in part.stage.reads)
    return moved / part.tiling.programs


def _bytes(program: Program, numbers: Numbers, name: str) -> int:
    return program.types[name].size * ITEM_SIZE_BYTES[numbers.storage[name]]


def flops_of(body: Expr) -> int:
    """Operations of one evaluation."""
    own = FUNCTIONS[body.fn].flops if isinstance(body, Apply) else 0
    return own + sum(flops_of(part) for part in body.parts())
