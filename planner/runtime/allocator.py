"""The C library's allocator, where memory is short."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
_LARGE_BYTES = 2**20


def give_back_at_once() -> bool:
    """Blocks of 1 MiB and more go back to the system when they are freed, for this process and
    for good; False where the C library knows no such thing.

    Why: glibc raises its threshold to the largest block that was freed (up to 32 MiB), and from
    then on keeps such blocks for itself. Sessions that run one after the other then hold what all
    of them needed: 185 MiB in place of 81 after two runs of nine parts that pass on tensors of
    8 MiB (`tests/steps/test_recompute.py`).
    """
    call = getattr(ctypes.CDLL(None), "mallopt", None)
    if call is None:
        return False
    maps = bool(call(_MMAP_THRESHOLD, _LARGE_BYTES))
    trims = bool(call(_TRIM_THRESHOLD, _LARGE_BYTES))
    return maps and trims
