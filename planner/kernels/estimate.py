"""What a schedule should take, and what no schedule could beat: from measured constants.

    launch = `planner.kernels.pace`
    floor  = launch + max(weights / rate, operations / rate) + D * link; D: contractions in a row

Constants of an H200 (`benchmarks/notes/gpu_constants.md`, 2026-11-23 and 2026-11-27).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.kernels import pace
from planner.kernels.pace import Chip, Pace
from planner.kernels.patterns import is_contraction
from planner.kernels.source import Numbers, Part
from planner.kernels.text import ITEM_SIZE_BYTES
from planner.ops.expr import Apply, Expr, Load, loads
from planner.ops.functions import FUNCTIONS
from planner.ops.nest import Nest, Program

H200_FLOPS_PER_US, H200_UNITS = 3.9e8, 132
"""Of products in float16; multiprocessors."""


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
    handed_over_us: float = 1.12
    """Grid barrier with words handed over through it, nothing else done (measured)."""
    l2_bytes_per_us: float = 7.2e6
    """L2 read, slices of 4 to 50 MB (measured, lower end)."""
    dram_bytes_per_us: float = 4.65e6
    """Read (measured)."""
    l2_size_bytes: float = 50e6
    """What stays in L2 from one call to the next (measured: above that, rates fall)."""
    flops_per_us: Mapping[str, float] = field(
        default_factory=lambda: {
            "float16": H200_FLOPS_PER_US,
            "bfloat16": H200_FLOPS_PER_US,
            "float32": 2.6e7,
        }
    )
    """Half of the best rate seen (787 / 52 T/s): small tiles do not reach more."""
    units: int = H200_UNITS
    """Multiprocessors."""
    cycle_us: float = 1 / 1980
    """Of the clock that multiprocessors run at under load (measured: 1980 MHz)."""
    has_dependent_launch: bool = True
    """Whether a kernel may start before its predecessor ends (compute capability 9.0)."""
    pace: Pace = field(default_factory=Pace)
    """Of one multiprocessor (fitted)."""

    def chip(self, product_type: str) -> Chip:
        """What the time of a launch depends on, with products in a number format."""
        slower = H200_FLOPS_PER_US / self.flops_per_us[product_type]
        return Chip(
            self.link_us,
            self.hard_link_us,
            self.l2_bytes_per_us,
            self.units,
            self.pace,
            slower * self.units / H200_UNITS,
        )


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
    return sum(_nest_flops(nest) for nest in program.nests)


def _nest_flops(nest: Nest) -> int:
    """Operations of all its points: a step of a product is a multiplication and an addition."""
    return nest.points * max(flops_of(nest.body) + (not nest.is_map), 1)


def _weights_bytes(program: Program, numbers: Numbers) -> int:
    """Of the constants, what is read: of a table no more than the places that are looked up."""
    looks = dict.fromkeys(program.constants, 0)
    for nest in program.nests:
        for load in loads(nest.body):
            if load.tensor in looks:
                looks[load.tensor] += _places(load)
    return sum(
        min(program.types[name].size, places) * ITEM_SIZE_BYTES[numbers.storage[name]]
        for name, places in looks.items()
    )


def _places(load: Load) -> int:
    """How many elements it may read over all points: one for each value of what it depends on."""
    return math.prod(var.extent for var in load.variables())


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
    """What stages side by side take."""
    return blocks_us([pace.block_of(program, part) for part in parts], numbers, rates)


def blocks_us(blocks: Sequence[pace.Block], numbers: Numbers, rates: Rates = H200) -> float:
    """The same, from what was counted before."""
    kind = numbers.product_type
    return pace.launch_us(blocks, rates.chip(kind), ITEM_SIZE_BYTES[kind])


def launch_floor_us(
    program: Program, parts: Sequence[Part], numbers: Numbers, rates: Rates = H200
) -> float:
    """What its traffic and arithmetic alone take, each byte moved once, at the best rates seen."""
    names = {name for part in parts for name in (*part.stage.reads, *part.stage.makes)}
    inside = {name for part in parts for name in (part.stage.root, *part.stage.internal)}
    moved = sum(_bytes(program, numbers, name) for name in names)
    flops = sum(_nest_flops(nest) for nest in program.nests if nest.name in inside)
    compute = flops / rates.flops_per_us[numbers.product_type] / 2
    return rates.hard_link_us + max(moved / rates.l2_bytes_per_us, compute)


def _bytes(program: Program, numbers: Numbers, name: str) -> int:
    return program.types[name].size * ITEM_SIZE_BYTES[numbers.storage[name]]


def flops_of(body: Expr) -> int:
    """Operations of one evaluation."""
    own = FUNCTIONS[body.fn].flops if isinstance(body, Apply) else 0
    return own + sum(flops_of(part) for part in body.parts())
