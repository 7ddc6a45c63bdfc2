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
_DISK_READ, _DISK_WRITE = 473.0, 746.0
"""Bytes per microsecond from and to a cloud's network disk, same source."""
_PACKED = 0.28
"""Size of 4-bit groups with their scales against 16 bits."""
_OFFLOADERS = frozenset({"flexgen", "accelerate", "deepspeed-zero"})


@dataclass(frozen=True, slots=True)
class Placement:
    """Shares that are not on the device, and how batches are grouped."""

    weights: float
    cache: float
    activations: float
    disk_weights: float
    """Of all weights, those that come from disk: they pass the host's memory."""
    disk_cache: float
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
    if runtime not in _OFFLOADERS:
        if re.search(r"\bdisk\b(?!=0)", text):
            raise UnpredictableError("offloading to disk is not modelled for this software")
        return None
    percent = re.search(r"percent\s+(\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", text)
    batches = re.search(r"(?:num-gpu-batches=|gbs=\d+ x)(\d+)", text)
    if percent is not None:
        shares = [int(each) / 100 for each in percent.groups()]
        on_device = shares[0::2]
        on_disk = [1 - g - c for g, c in zip(shares[0::2], shares[1::2], strict=True)]
        return Placement(
            weights=1 - on_device[0],
            cache=1 - on_device[1],
            disk_weights=max(0.0, on_disk[0]),
            disk_cache=max(0.0, on_disk[1]),
            activations=1 - on_device[2],
            batches=int(batches[1]) if batches else 1,
            packs_weights=row.precision.lower().startswith("int4"),
            packs_cache="int4" in f"{row.precision} {text}".lower(),
            is_pinned=True,
        )
    lowest = re.search(r"device=(cpu|disk)", text)
    return Placement(
        weights=1.0 if lowest else 0.0,
        cache=0.0,
        activations=0.0,
        disk_weights=1.0 if lowest and lowest[1] == "disk" else 0.0,
        disk_cache=0.0,
        batches=1,
        packs_weights=row.precision.lower().startswith("int4"),
        packs_cache=False,
        is_pinned=runtime != "accelerate",
    )


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
    streamed += placement.disk_weights * weights / _DISK_READ
    new = placement.cache * token * batch * queries / (link * _STORE_SHARE)
    new += placement.disk_cache * token * batch * queries / _DISK_WRITE
    state = 2 * 2.0 * model.layers * batch * queries * model.hidden * placement.activations
    streamed += state / (link * _STATE_SHARE)
    if queries > 1:
        return streamed + new, 0.0
    streamed += placement.disk_cache * token * batch * keys / _DISK_READ
    return streamed, placement.cache * token * batch * keys / (memory * _HOST_SHARE)


def unpacked_bytes(placement: Placement, model: Transformer, batch: int, keys: int) -> float:
    """What unpacking 4-bit weights and caches moves in one pass."""
    weights = 2.0 * model.layers * model.layer_parameters * placement.batches
    cache = 4.0 * model.layers * model.kv_heads * model.width * batch * keys
    cache *= 1 - placement.cache
    packed = placement.packs_weights * weights + placement.packs_cache * cache
    return packed * (_PACKED + 2.0 * _UNPACKING)
