"""What the threads of a block ask of memory with one instruction, a warp at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_WARP = 32
_SECTOR_BYTES, _LINE_BYTES = 32, 128
"""What L2 hands out at a time, and what a request of a warp is made to."""
_BANKS, _BANK_BYTES = 32, 4
"""Of shared memory, each a word a cycle."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Requests:
    """Of all warps of a block."""

    sectors: float
    """Of 32 bytes, each counted once a warp."""
    lines: float
    """Of 128 bytes, the same."""
    fresh: float
    """Sectors, each counted once a block: what an L1 that is asked would pass on."""


def requests_of(addresses: Array, is_on: Array, size_bytes: int) -> Requests:
    """What one instruction asks of memory.

    Args:
        addresses: bytes, each thread's, aligned to `size_bytes`.
        is_on: which threads ask.
        size_bytes: of each thread.
    """
    sectors = _by_warp(addresses // _SECTOR_BYTES, is_on)
    lines = _by_warp(addresses // _LINE_BYTES, is_on)
    wider = max(size_bytes / _SECTOR_BYTES, 1.0)
    asked = np.unique((addresses // _SECTOR_BYTES)[is_on])
    return Requests(_distinct(sectors) * wider, _distinct(lines), len(asked) * wider)


def everywhere(threads: int) -> Requests:
    """What it asks where its addresses are not known: each thread for a line of its own."""
    return Requests(threads, threads, threads)


def shared_cycles(addresses: Array, is_on: Array, size_bytes: int) -> float:
    """Cycles that shared memory takes: words of one bank follow each other; O(threads log).

    Args: as `requests_of`.
    """
    words = max(size_bytes // _BANK_BYTES, 1)
    total = 0.0
    for start in range(0, len(addresses), _WARP):
        own = addresses[start : start + _WARP][is_on[start : start + _WARP]] // _BANK_BYTES
        if not len(own):
            continue
        asked = np.unique((own[:, None] + np.arange(words)).ravel())
        total += float(np.bincount(asked % _BANKS).max())
    return total


def _by_warp(values: Array, is_on: Array) -> Array:
    """A row a warp, -1 for threads that ask for nothing."""
    padded = np.full(-(-len(values) // _WARP) * _WARP, -1, np.int64)
    padded[: len(values)] = np.where(is_on, values, -1)
    return np.sort(padded.reshape(-1, _WARP), axis=1)


def _distinct(rows: Array) -> float:
    """Distinct values that are no -1, over all rows (each sorted)."""
    steps = int((np.diff(rows, axis=1) != 0).sum())
    return float(steps + len(rows) - int((rows[:, 0] == -1).sum()))
