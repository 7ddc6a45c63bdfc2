"""How long a fused attention takes: prefill by tiles of queries, decode by split keys.

Prefill: a block takes a tile of queries of one head over all keys it sees; blocks run in waves;
queries, keys, values and results move `passes` times (bias, rotation and the cache's own copy are
part of the kernels that were measured). Decode: a block takes one kv head of one sequence, or a
part of its keys, for all query heads that share it; it is bound by reading keys and values.

Parameters are relative to the device's rates, as for products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.cost.machine import SHARPEST, Machine
from planner.cost.work import ACTIVATION_BYTES

Array = npt.NDArray[np.float64]

_QUERY_TILES = np.array([64.0, 128.0])
_KEY_SPLITS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
_KEY_TILE = 64
_GROUP_TILE = 16
"""Rows of one tensor instruction: a group of query heads is padded to it."""

PREFILL_PRIOR: Mapping[str, tuple[float, float]] = {
    "start": (8.0, 1.0),
    "efficiency": (0.55, 0.4),
    "tile_power": (0.3, 0.7),
    "prologue": (2.0, 0.9),
    "passes": (2.0, 0.7),
    "bandwidth": (0.85, 0.15),
    "quantisation": (0.5, 0.6),
    "sharpness": (2.5, 0.5),
}
DECODE_PRIOR: Mapping[str, tuple[float, float]] = {
    "start": (8.0, 1.0),
    "bandwidth": (0.85, 0.15),
    "reach": (1.6, 0.6),
    "efficiency": (0.3, 0.7),
    "prologue": (1.0, 0.9),
    "split": (2.0, 0.8),
    "quantisation": (0.5, 0.6),
    "sharpness": (3.0, 0.5),
}
LATENT_PRIOR: Mapping[str, tuple[float, float]] = {
    **DECODE_PRIOR,
    "bandwidth": (0.9, 0.15),
    "efficiency": (0.67, 0.4),
}
"""Of decoding over latent vectors, which all heads share, so that arithmetic counts as well as
bytes: 3,000 of 3,350 GB/s and 660 of 989.5 Tflop/s on an H800 (deepseek-ai/FlashMLA, README)."""


@dataclass(frozen=True, slots=True)
class Attentions:
    """Many attentions of one format, as columns."""

    format: str
    batch: Array
    heads: Array
    kv_heads: Array
    head_dim: Array
    queries: Array
    keys: Array
    is_causal: Array
    """1 or 0."""
    cached_share: Array
    """Of keys and values, what is read: less than 1 where values are a part of keys."""

    def part(self, at: npt.NDArray[np.int64] | slice) -> Attentions:
        """Some of them."""
        heads = (self.batch[at], self.heads[at], self.kv_heads[at], self.head_dim[at])
        seen = (self.queries[at], self.keys[at], self.is_causal[at], self.cached_share[at])
        return Attentions(self.format, *heads, *seen)

    def __len__(self) -> int:
        return len(self.batch)


def prefill_us(works: Attentions, machine: Machine, at: Mapping[str, float]) -> Array:
    """Microseconds of each attention over new positions."""
    tile = _QUERY_TILES[None]
    queries, keys = works.queries[:, None], works.keys[:, None]
    lanes = (works.batch * works.heads)[:, None]
    dim = works.head_dim[:, None]
    blocks = lanes * np.ceil(queries / tile)
    seen = keys - works.is_causal[:, None] * np.maximum(queries - tile, 0.0) / 2
    seen = np.ceil(seen / _KEY_TILE) * _KEY_TILE
    efficiency = np.minimum(at["efficiency"], 1.0) * (tile / 128) ** at["tile_power"]
    rate = machine.rate(works.format) / machine.units * efficiency
    block = 4 * tile * seen * dim / rate + at["prologue"]
    compute = _waves(blocks / machine.units, at["quantisation"]) * block
    width = ACTIVATION_BYTES[works.format]
    heads = works.heads * works.queries + works.kv_heads * works.keys * works.cached_share
    moved = (2 * width * works.batch * works.head_dim * heads)[:, None] * at["passes"]
    memory = moved / (machine.bandwidth * min(at["bandwidth"], 1.0))
    total: Array = at["start"] + _norm(compute, memory, at["sharpness"]).min(axis=1)
    return total


def decode_us(works: Attentions, machine: Machine, at: Mapping[str, float]) -> Array:
    """Microseconds of each attention of one new position (or few) over many keys."""
    split = _KEY_SPLITS[None]
    keys, dim = works.keys[:, None], works.head_dim[:, None]
    group = (works.heads / works.kv_heads * works.queries)[:, None]
    lanes = (works.batch * works.kv_heads)[:, None]
    part = np.ceil(keys / split / _KEY_TILE) * _KEY_TILE
    blocks = lanes * split
    rate = machine.rate(works.format) / machine.units * min(at["efficiency"], 1.0)
    rows = np.ceil(group / _GROUP_TILE) * _GROUP_TILE
    block = 4 * rows * part * dim / rate + at["prologue"]
    compute = _waves(blocks / machine.units, at["quantisation"]) * block
    read = keys * works.cached_share[:, None]
    moved = 2 * ACTIVATION_BYTES[works.format] * dim * lanes * (read + group)
    drawn = np.minimum(1.0, np.minimum(blocks, machine.units) * at["reach"] / machine.units)
    memory = moved / (machine.bandwidth * min(at["bandwidth"], 1.0) * drawn)
    total = _norm(compute, memory, at["sharpness"])
    total = total + np.where(split > 1, at["split"], 0.0)
    best: Array = at["start"] + total.min(axis=1)
    return best


def _waves(full: Array, quantisation: float) -> Array:
    rounded = min(quantisation, 1.0)
    waves: Array = np.maximum((1 - rounded) * full + rounded * np.ceil(full), 1.0)
    return waves


def _norm(first: Array, second: Array, power: float) -> Array:
    longest, power = np.maximum(first, second), min(power, SHARPEST)
    shares = (first / longest) ** power + (second / longest) ** power
    norm: Array = longest * shares ** (1 / power)
    return norm
