"""Sizes of this machine's processor caches and memory, as the system tells them."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")
UNKNOWN_SIZES_BYTES = {2: 2**20, 3: 32 * 2**20}
"""Level -> bytes where the system does not tell: common sizes."""


def cache_sizes(folder: Path = FOLDER) -> dict[int, int]:
    """Cache level -> bytes of its data or unified cache; empty where the system does not tell."""
    found: dict[int, int] = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level = int((index / "level").read_text())
            size = (index / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        match = re.fullmatch(r"(\d+)([KM]?)", size)
        if kind != "Instruction" and match is not None:
            found[level] = int(match[1]) * {"": 1, "K": 2**10, "M": 2**20}[match[2]]
    return found


@cache
def last_level_size_bytes() -> int:
    """The largest cache of this machine."""
    return max(cache_sizes().values(), default=UNKNOWN_SIZES_BYTES[3])


@cache
def memory_size_bytes() -> int:
    """All of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
