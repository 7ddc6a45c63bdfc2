"""How long a product takes: the best of many tilings, each priced by its waves and its traffic.

A library picks a tile (rows x columns of the result made by one block) and a split of the inner
dimension. For each of them

    blocks  = ceil(m / rows) * ceil(n / columns) * batch * splits
    waves   = blocks / multiprocessors, rounded up in part (`quantisation`)
    compute = waves * (2 * rows * columns * k / splits / (rate of one multiprocessor * efficiency)
                       + prologue)
    memory  = bytes / (bandwidth * share), less where few blocks run
    unpack  = weights of a block widened one by one, at the rate of 32-bit instructions, where they
              are kept in fewer bits than are multiplied: beside the multiplication, which other
              pipes do, so that the longer of the two counts
    steps   = steps along the inner dimension, each no shorter than memory's latency over the loads
              in flight: kernels that widen weights, and convolutions, walk all of it in one block
    cache   = what blocks read of both operands / cache bandwidth

and the product takes `start` + the p-norm of these bounds, of the best tiling. Efficiency falls
with the tile's ratio of arithmetic to loads as a power law. All parameters are relative to the
device's own rates, so that those of one device are a fair guess for the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.cost.machine import BLUNTEST, SHARPEST, Machine
from planner.cost.work import ACTIVATION_BYTES, OUTPUT_BYTES, WEIGHT_BYTES

Array = npt.NDArray[np.float64]

_TILES = (
    *((256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (32, 128)),
    *((64, 32), (32, 64), (16, 128), (16, 64), (32, 32), (16, 32)),
)
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_TILINGS = np.array([(*tile, split) for tile in _TILES for split in _SPLITS], dtype=np.float64)
_LARGEST_TILE = 256 * 128 / (256 + 128)
"""Ratio of arithmetic to loads of the largest tile."""
_STEP = 32
"""Inner dimension of one step of the main loop."""
_CHUNK = 512
"""Products priced at once: keeps arrays within the processor's cache."""

PRIOR: Mapping[str, tuple[float, float]] = {
    "start": (3.0, 1.0),
    "efficiency": (0.85, 0.3),
    "tile_power": (0.5, 0.6),
    "prologue": (0.8, 0.7),
    "bandwidth": (0.85, 0.15),
    "reach": (1.6, 0.4),
    "cache": (2.5, 0.5),
    "quantisation": (0.7, 0.4),
    "split": (1.0, 0.7),
    "sharpness": (4.0, 0.4),
}
"""Parameter -> (typical value, its spread in natural logarithm): `start`, `prologue` and `split` in
microseconds, `cache` in multiples of memory bandwidth, `reach` in multiples of what one
multiprocessor must draw when all draw; the rest are shares and powers."""
LONGEST_JOIN_US = 8.0
"""Of joining splits, which is one more kernel at most: three spreads beyond what is typical. Where
none of a library's products was split (fp32 of 512 rows and more), fits would have it last for
milliseconds, and products of few rows, which are split, would take four times too long. Many
products at once are blocks enough without."""
_WALK_BYTES = 128
"""Of an activation's row that one step along the inner dimension loads: a line of the cache."""
_RESIDENT = 2
"""Blocks of a kernel that walks on one multiprocessor: four stages of a 64 x 128 tile take 64 KB of
an A100's 164 KB of shared memory (CUDA C++ programming guide, compute capabilities)."""
_STEP_US = 0.16
"""466 cycles of an A100's memory (Abdelkhalik et al. 2022, global memory) over two loads in flight
at 1.41 GHz."""
_WIDENING: Mapping[str, tuple[float, float]] = {"unpack": (1.0, 0.5), "step": (_STEP_US, 0.4)}
"""`unpack` in instructions a weight: four bytes take two permutations and two subtractions of
pairs. `step` in microseconds."""
UNPACKED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "int8_wo": _WIDENING,
    "int4_wo": _WIDENING,
}
"""Formats whose weights every block widens before it multiplies, with their own parameters."""
_UNSPLIT: Array = _TILINGS[_TILINGS[:, 2] == 1]
_IMPLICIT: Array = _UNSPLIT[_UNSPLIT[:, :2].prod(axis=1) >= 64 * 64]
"""Tilings of convolutions: kernels of cuDNN and TensorRT are named by theirs; none is smaller."""
_WIDENED: Array = _UNSPLIT[_UNSPLIT[:, :2].max(axis=1) <= 128]
"""Tilings of their kernels: weights are interleaved for one tile's columns, and partial sums of
several blocks would wait for each other."""


@dataclass(frozen=True, slots=True)
class Products:
    """Many products of one format, as columns."""

    format: str
    m: Array
    n: Array
    k: Array
    batch: Array
    share: Array
    """Bytes of the left operand over m * k elements: less than 1 where windows overlap."""
    is_convolution: bool = False
    """Whether they are implicit products of convolutions, whose kernels do not split windows."""

    @property
    def walks(self) -> bool:
        """Whether one block walks all of the inner dimension."""
        return self.is_convolution or self.format in UNPACKED

    @property
    def tilings(self) -> Array:
        """[tilings, 3]: rows, columns, splits."""
        if self.format in UNPACKED:
            return _WIDENED
        return _IMPLICIT if self.is_convolution else _TILINGS

    def part(self, at: npt.NDArray[np.int64] | slice) -> Products:
        """Some of them."""
        columns = (self.m[at], self.n[at], self.k[at], self.batch[at], self.share[at])
        return Products(self.format, *columns, self.is_convolution)

    def __len__(self) -> int:
        return len(self.m)


def products_us(works: Products, machine: Machine, parameters: Mapping[str, float]) -> Array:
    """Microseconds of each product on a machine.

    Args:
        parameters: a value for each name in `PRIOR`.
    """
    starts = range(0, len(works), _CHUNK)
    parts = [_priced(works.part(slice(s, s + _CHUNK)), machine, parameters) for s in starts]
    return np.concatenate(parts) if parts else np.empty(0)


def _priced(works: Products, machine: Machine, at: Mapping[str, float]) -> Array:
    m, n, k, batch = (x[:, None] for x in (works.m, works.n, works.k, works.batch))
    left = m * k * works.share[:, None]
    rows, columns, splits = (works.tilings[:, i][None] for i in range(3))
    inner = np.ceil(k / splits / _STEP) * _STEP
    blocks = np.ceil(m / rows) * np.ceil(n / columns) * batch * splits

    compute = _waves(blocks / machine.units, at) * _block(rows, columns, inner, works, machine, at)
    partial = np.where(splits > 1, 2 * 4 * m * n * batch, 0.0)
    written = ACTIVATION_BYTES if works.is_convolution else OUTPUT_BYTES
    width = (WEIGHT_BYTES[works.format], ACTIVATION_BYTES[works.format], written[works.format])
    moved = batch * (k * n * width[0] + left * width[1] + m * n * width[2]) + 0.5 * partial
    drawn = np.minimum(1.0, np.minimum(blocks, machine.units) * at["reach"] / machine.units)
    memory = moved / (machine.bandwidth * min(at["bandwidth"], 1.0) * drawn)
    loaded = blocks * (rows * width[1] + columns * width[0]) * inner
    cache = loaded / (machine.bandwidth * at["cache"])

    bounds = [compute, memory, cache]
    if works.walks:
        bounds.append(_walked(blocks / machine.units, inner * width[1], at))
    power = min(max(at["sharpness"], BLUNTEST), SHARPEST)
    longest = np.maximum.reduce(bounds)
    shares = np.sum([(bound / longest) ** power for bound in bounds], axis=0)
    total = longest * shares ** (1 / power)
    join = np.where(batch > 1, at["split"], min(at["split"], LONGEST_JOIN_US))
    total += np.where(splits > 1, join * (1 + 0.3 * np.log2(splits)), 0.0)
    best: Array = at["start"] + total.min(axis=1)
    return best


def _waves(full: Array, at: Mapping[str, float]) -> Array:
    rounded = min(at["quantisation"], 1.0)
    waves: Array = np.maximum((1 - rounded) * full + rounded * np.ceil(full), 1.0)
    return waves


def _block(
    rows: Array,
    columns: Array,
    inner: Array,
    works: Products,
    machine: Machine,
    at: Mapping[str, float],
) -> Array:
    """Microseconds of one block on its multiprocessor."""
    ratio = rows * columns / (rows + columns) / _LARGEST_TILE
    efficiency = np.minimum(at["efficiency"], 1.0) * ratio ** at["tile_power"]
    rate = machine.rate(works.format) / machine.units
    multiplied: Array = 2 * rows * columns * inner / (rate * efficiency)
    if works.format in UNPACKED and "fp32" in machine.peak:
        lanes = machine.peak["fp32"] / 2 / machine.units
        unpack = at.get("unpack", _WIDENING["unpack"][0])
        multiplied = np.maximum(multiplied, unpack * columns * inner / lanes)
    return multiplied + at["prologue"]


def _walked(full: Array, row_bytes: Array, at: Mapping[str, float]) -> Array:
    """Microseconds in which blocks, several at once on each multiprocessor, walk rows of the left
    operand if nothing but latency holds them up."""
    steps = np.ceil(row_bytes / _WALK_BYTES)
    walked: Array = np.ceil(full / _RESIDENT) * steps * at.get("step", _STEP_US)
    return walked
