"""Where tensors lie: planned by liveness; lifetimes that do not meet share bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 256


@dataclass(frozen=True, slots=True)
class Life:
    """From the launch that writes a tensor to the last one that reads it, both included."""

    first: int
    last: int
    size_bytes: int


def aligned(size_bytes: int) -> int:
    """Rounded up to the alignment of device addresses."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def blocks(sizes_bytes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """(offset of each tensor, bytes in all) one after the other: what crosses over in one copy."""
    offsets: dict[str, int] = {}
    end = 0
    for name, size_bytes in sizes_bytes.items():
        offsets[name] = end
        end += aligned(size_bytes)
    return offsets, end


def joined(lives: Mapping[str, Life], names: Sequence[str], total_bytes: int) -> Life:
    """The lifetime of tensors that lie in one block."""
    first = min((lives[name].first for name in names), default=0)
    return Life(first, max((lives[name].last for name in names), default=0), total_bytes)


def place(lives: Mapping[str, Life]) -> tuple[dict[str, int], int]:
    """(offset of each tensor, size of the arena). Largest first, each as low as it fits. O(n^2)."""
    placed: list[tuple[int, int, Life]] = []
    offsets: dict[str, int] = {}
    for name, life in sorted(lives.items(), key=lambda item: (-item[1].size_bytes, item[0])):
        size = aligned(life.size_bytes)
        taken = sorted(
            (start, end)
            for start, end, other in placed
            if other.first <= life.last and life.first <= other.last
        )
        offset = 0
        for start, end in taken:
            if offset + size <= start:
                break
            offset = max(offset, end)
        offsets[name] = offset
        placed.append((offset, offset + size, life))
    return offsets, max((end for _, end, _ in placed), default=0)
