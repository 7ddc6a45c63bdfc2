"""Generation with weights, cache and activations partly in host memory.

Per layer and step, weights stream from the host once for all batches of a block while the device
computes; attention over a cache in host memory runs at the host's own bandwidth (or the cache
streams). The slower of the streams and the computation shows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.tables.architectures import Transformer
from benchmarks.tables.rows import Row, UnpredictableError

_LOAD_SHARE = 0.82
"""Of the link's datasheet rate for weights: 12.9 of 15.75 GB/s, fitted by FlexGen's authors."""
_PAGEABLE_SHARE = 0.35
"""The same from pageable memory: a copy through a staging buffer."""
_UNPACKING = 6
"""Kernels that unpack groups, each reading and writing 16 bits: split, join, cast, scale, shift."""
_STORE_SHARE = 0.062
"""For new keys and values on their way to the host: 0.97 of 15.75 GB/s, same source."""
_STATE_SHARE = 0.13
"""For activations, each way: 2.0 of 15.75 GB/s, same source."""
_HOST_SHARE = 0.15
"""Of host bandwidth that attention on the host draws: 12.3 GFLOP/s at one operation a byte, same
source."""
_PACKED = 0.28
"""Size of 4-bit groups with their scales against 16 bits."""
_OFFLOADERS = frozenset({"flexgen", "accelerate", "deepspeed-zero"})


@dataclass(frozen=True, slots=True)
class Placement:
    """Shares in host memory, and how batches are grouped."""

    weights: float
    cache: float
    activations: float
    batches: int
    """Batches that one load of the weights serves."""
    packs_weights: bool
    """In 4 bits, unpacked before every use."""
    packs_cache: bool
    """The same for keys and values."""
    is_pinned: bool
    """Copies come from pinned memory."""


def placement_of(row: Row, runtime: str) -> Placement | None:
    """Where a row keeps its tensors; None where everything is on the device.

    Raises:
        UnpredictableError: the row's software spreads a model over machines it does not describe.
    """
    if runtime == "petals":
        raise UnpredictableError("a swarm of machines is not modelled")
    text = row.text
    if "disk" in text and "disk=0" not in text:
        raise UnpredictableError("offloading to disk is not modelled")
    if runtime not in _OFFLOADERS:
        return None
    percent = re.search(r"percent\s+(\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", text)
    batches = re.search(r"(?:num-gpu-batches=|gbs=\d+ x)(\d+)", text)
    if percent is not None:
        on_device = [int(percent[i]) / 100 for i in (1, 3, 5)]
        return Placement(
            weights=1 - on_device[0],
            cache=1 - on_device[1],
            activations=1 - on_device[2],
            batches=int(batches[1]) if batches else 1,
            packs_weights=row.precision.lower().startswith("int4"),
            packs_cache="int4" in f"{row.precision} {text}".lower(),
            is_pinned=True,
        )
    on_host = 1.0 if re.search(r"device=cpu", text) else 0.0
    packs = row.precision.lower().startswith("int4")
    is_pinned = runtime != "accelerate"
    return Placement(on_host, 0.0, 0.0, 1, packs, packs_cache=False, is_pinned=is_pinned)


def host_us(
    placement: Placement,
    model: Transformer,
    shape: tuple[int, int, int],
    link: float,
    memory: float,
) -> tuple[float, float]:
    """(streamed behind computation, in line with it) microseconds of one pass.

    Args:
        shape: batch, new positions, positions seen.
        link: bytes per microsecond to the device.
        memory: of host memory.
    """
    batch, queries, keys = shape
    weights = 2.0 * model.layers * model.layer_parameters
    weights *= _PACKED if placement.packs_weights else 1.0
    token = 4.0 * model.layers * model.kv_heads * model.width
    token *= _PACKED if placement.packs_cache else 1.0
    share = _LOAD_SHARE if placement.is_pinned else _PAGEABLE_SHARE
    streamed = placement.weights * weights / (link * share)
    new = placement.cache * token * batch * queries / (link * _STORE_SHARE)
    state = 2 * 2.0 * model.layers * batch * queries * model.hidden * placement.activations
    streamed += state / (link * _STATE_SHARE)
    if queries > 1:
        return streamed + new, 0.0
    return streamed, placement.cache * token * batch * keys / (memory * _HOST_SHARE)


def unpacked_bytes(placement: Placement, model: Transformer, batch: int, keys: int) -> float:
    """What unpacking 4-bit weights and caches moves in one pass."""
    weights = 2.0 * model.layers * model.layer_parameters * placement.batches
    cache = 4.0 * model.layers * model.kv_heads * model.width * batch * keys
    cache *= 1 - placement.cache
    packed = placement.packs_weights * weights + placement.packs_cache * cache
    return packed * (_PACKED + 2.0 * _UNPACKING)
