"""What a schedule should take, and what no schedule could beat: from measured constants.

    launch = link + phases + max(bytes / L2 rate, bytes of a block / its rate, operations / rate)
    floor  = launch + max(weights / rate, operations / rate) + D * link; D: contractions in a row

Constants of an H200 (`benchmarks/results/README.md`, 2026-11-23); a stage's own phases are the part
of the measured 2.2 us of a 16 x 256 x 1024 stage that its link (0.85 us) does not explain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.kernels.reduce import is_contraction
from planner.kernels.source import Numbers, Part
from planner.kernels.stage import Kind
from planner.kernels.text import ITEM_SIZE_BYTES
from planner.ops.expr import Apply, Expr
from planner.ops.functions import FUNCTIONS
from planner.ops.nest import Program


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device takes for what a schedule is made of; the defaults are an H200's."""

    launch_us: float = 2.5
    """Before the first kernel of a graph runs (estimate from the intercepts of measured chains)."""
    link_us: float = 0.85
    """Kernel boundary, dependent launch, weights fetched before the wait (measured)."""
    hard_link_us: float = 0.62
    """The same between empty kernels (measured)."""
    barrier_us: float = 1.29
    """Grid barrier inside a kernel, weights fetched while waiting (measured)."""
    product_us: float = 1.3
    """Reading activations, multiplying and storing, once (measured)."""
    phase_us: float = 0.3
    """A reduction inside a stage: shuffles and a block barrier (estimate)."""
    l2_bytes_per_us: float = 7.2e6
    """L2 read, slices of 4 to 50 MB (measured, lower end)."""
    block_bytes_per_us: float = 0.102e6
    """L2 read of one multiprocessor (measured, lower end)."""
    dram_bytes_per_us: float = 4.65e6
    """Read (measured)."""
    l2_size_bytes: float = 50e6
    """What stays in L2 from one call to the next (measured: above that, rates fall)."""
    flops_per_us: Mapping[str, float] = field(
        default_factory=lambda: {"float16": 3.9e8, "bfloat16": 3.9e8, "float32": 2.6e7}
    )
    """Half of the best rate seen (787 / 52 T/s): small tiles do not reach more."""
    units: int = 132
    """Multiprocessors."""
    has_dependent_launch: bool = True
    """Whether a kernel may start before its predecessor ends (compute capability 9.0)."""


H200 = Rates()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a whole schedule."""

    predicted_us: float
    floor_us: float
    launches: int
    contractions_in_a_row: int
    """D: the longest chain of contractions of the operator graph."""
    flops: int


@dataclass(frozen=True, slots=True)
class Floor:
    """What no schedule beats: launch + max(memory, compute) + levels x level."""

    launch_us: float
    memory_us: float
    compute_us: float
    levels: int
    """The longest chain of contractions of the operator graph."""
    level_us: float

    @property
    def total_us(self) -> float:
        """The sum."""
        return self.launch_us + max(self.memory_us, self.compute_us) + self.levels * self.level_us


def floor(program: Program, numbers: Numbers, rates: Rates = H200) -> Floor:
    """The floor of a program in a number format; O(nests)."""
    weights = _weights_bytes(program, numbers)
    rate = rates.l2_bytes_per_us
    if weights > rates.l2_size_bytes:
        rate = rates.dram_bytes_per_us
    return Floor(
        rates.launch_us,
        weights / rate,
        _flops(program) / rates.flops_per_us[numbers.product_type] / 2,
        contractions_in_a_row(program),
        rates.hard_link_us,
    )


def estimate(
    program: Program,
    launches: Sequence[Sequence[Part]],
    numbers: Numbers,
    rates: Rates = H200,
) -> Estimate:
    """Prediction and floor; O(nests + stages)."""
    least = floor(program, numbers, rates)
    predicted = rates.launch_us + sum(
        launch_us(program, parts, numbers, rates) for parts in launches
    )
    return Estimate(predicted, least.total_us, len(launches), least.levels, _flops(program))


def _flops(program: Program) -> int:
    return sum(nest.points * max(flops_of(nest.body), 1) for nest in program.nests)


def _weights_bytes(program: Program, numbers: Numbers) -> int:
    return sum(
        program.types[name].size * ITEM_SIZE_BYTES[numbers.storage[name]]
        for name in program.constants
    )


def contractions_in_a_row(program: Program) -> int:
    """The longest chain of contractions."""
    depth: dict[str, int] = {}
    for nest in program.nests:
        before = max((depth.get(name, 0) for name in nest.reads), default=0)
        depth[nest.name] = before + is_contraction(nest)
    return max(depth.values(), default=0)


def launch_us(
    program: Program, parts: Sequence[Part], numbers: Numbers, rates: Rates = H200
) -> float:
    """Stages side by side: the longest chain of phases, the traffic and arithmetic of all."""
    loads = [_load(program, part, numbers, rates) for part in parts]
    own = max(load.own_us for load in loads)
    alone = max(load.alone_us for load in loads)
    traffic = sum(load.bytes for load in loads) / rates.l2_bytes_per_us
    compute = sum(load.compute_us for load in loads)
    return rates.link_us + own + max(alone, traffic, compute)


def launch_floor_us(
    program: Program, parts: Sequence[Part], numbers: Numbers, rates: Rates = H200
) -> float:
    """What its traffic and arithmetic alone take, each byte moved once, at the best rates seen."""
    names = {name for part in parts for name in (*part.stage.reads, *part.stage.makes)}
    inside = {name for part in parts for name in (part.stage.root, *part.stage.internal)}
    moved = sum(_bytes(program, numbers, name) for name in names)
    flops = sum(
        nest.points * max(flops_of(nest.body), 1) for nest in program.nests if nest.name in inside
    )
    compute = flops / rates.flops_per_us[numbers.product_type] / 2
    return rates.hard_link_us + max(moved / rates.l2_bytes_per_us, compute)


def stage_us(program: Program, part: Part, numbers: Numbers, rates: Rates = H200) -> float:
    """One stage, alone in its launch."""
    return launch_us(program, (part,), numbers, rates)


@dataclass(frozen=True, slots=True)
class _Load:
    """What a stage asks of the device."""

    own_us: float
    """Its chain of phases."""
    bytes: float
    alone_us: float
    """What its slowest multiprocessor needs, whatever the others do."""
    compute_us: float
    """Arithmetic on the whole chip."""


def _load(program: Program, part: Part, numbers: Numbers, rates: Rates) -> _Load:
    inside = [program.by_name[name] for name in (part.stage.root, *part.stage.internal)]
    products = sum(is_contraction(nest) for nest in inside)
    phases = sum(not nest.is_map for nest in inside) - products
    own = rates.phase_us * phases + (rates.product_us * products or rates.phase_us)
    written = sum(_bytes(program, numbers, name) for name in part.stage.makes)
    read = _read_per_block(program, part, numbers)
    flops = sum(nest.points * max(flops_of(nest.body), 1) for nest in inside)
    compute = flops / rates.flops_per_us[numbers.product_type]
    programs = part.tiling.programs
    waves = -(-programs // rates.units)
    idle = max(rates.units / programs, 1.0)
    alone = max(waves * read / rates.block_bytes_per_us, compute * idle)
    return _Load(own, read * programs + written, alone, compute)


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
