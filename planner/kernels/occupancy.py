"""How many blocks of a kernel a multiprocessor holds at once, from what the compiler reports.

Limits: CUDA C++ programming guide, technical specifications per compute capability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_WARP = 32
_REGISTERS = 65_536
_REGISTERS_PER_WARP_STEP = 256
_RESERVED_SHARED_BYTES = 1024
"""Of shared memory, per block, from capability 8.0 on."""


@dataclass(frozen=True, slots=True)
class _Limits:
    threads: int
    blocks: int
    shared_bytes: int


_LIMITS: Mapping[int, _Limits] = MappingProxyType(
    {
        80: _Limits(2048, 32, 167_936),
        86: _Limits(1536, 16, 102_400),
        89: _Limits(1536, 24, 102_400),
        90: _Limits(2048, 32, 233_472),
    }
)


_MOST_UNITS: Mapping[int, int] = MappingProxyType({80: 128, 86: 84, 89: 144, 90: 144})
"""Multiprocessors of the full chips GA100, GA102, AD102 and GH100 (NVIDIA's architecture
whitepapers): products have as many or fewer."""


def most_blocks(architecture: int, threads: int, registers: int, shared_bytes: int) -> int | None:
    """Blocks that the largest device of an architecture holds at once; None where none is known."""
    units = _MOST_UNITS.get(architecture)
    each = blocks_per_unit(architecture, threads, registers, shared_bytes)
    return None if units is None else each * units


def blocks_per_unit(architecture: int, threads: int, registers: int, shared_bytes: int) -> int:
    """Blocks that are resident side by side on one multiprocessor."""
    limits = _LIMITS.get(architecture, _LIMITS[80])
    warps = -(-threads // _WARP)
    step = _REGISTERS_PER_WARP_STEP
    per_warp = -(-max(registers, 1) * _WARP // step) * step
    by_registers = _REGISTERS // per_warp // warps
    by_shared = limits.shared_bytes // (shared_bytes + _RESERVED_SHARED_BYTES)
    return min(limits.blocks, limits.threads // threads, by_registers, by_shared)


def occupancy(architecture: int, threads: int, registers: int, shared_bytes: int) -> float:
    """Resident threads over the most a multiprocessor can hold."""
    limits = _LIMITS.get(architecture, _LIMITS[80])
    blocks = blocks_per_unit(architecture, threads, registers, shared_bytes)
    return blocks * threads / limits.threads
