"""Cycles of a multiprocessor of Hopper: latencies of what is waited for, rates of what is busy.

Arithmetic: NVIDIA's CUDA C++ programming guide, throughput at compute capability 9.0, and Luo et
al., "Benchmarking and Dissecting the NVIDIA Hopper GPU Architecture" (2024). What L2, lines,
barriers, whole numbers and values behind each other take was set once from how the errors of all
1,024 drafted kernels moved with it (H200, 2026-11-28): `benchmarks/fit_traced.py`, which leaves
models out, fits only what `planner.kernels.ptx.traced` holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from planner.kernels.ptx.instructions import Kind

WARP, WARPS_AT_ONCE = 32, 4
"""Threads of a warp; warps that an instruction is started of in a cycle."""
L2_CYCLES = 230.0
"""From asking L2 to having it."""
LINE_CYCLES, SECTOR_CYCLES = 1.4, 0.05
"""Of the way to L2: each line of 128 bytes that a warp asks for, and each sector of it."""
SHARED_CYCLES, MATRIX_LOAD_CYCLES = 30.0, 33.0
"""Latency of shared memory."""
PRODUCT_CYCLES, WIDE_PRODUCT_CYCLES = 34.0, 30.0
"""Latency of a warp's matrix instruction; of the last one of four warps together."""
PRODUCTS_A_CYCLE, WIDE_PRODUCTS_A_CYCLE = 1024.0, 2048.0
"""Multiply-adds in 16 bits, by warps alone and by four together."""
BARRIER_CYCLES, BRANCH_CYCLES = 45.0, 8.0
SERIAL_CYCLES = 65.0
"""A value's exponential and division behind those of the value before it."""
SHORT_CYCLES = 4.5
"""Latency of what is not told here."""
LATENCY: Mapping[Kind, float] = {
    Kind.SHUFFLE: 24.0,
    Kind.SPECIAL: 23.0,
    Kind.DIVISION: 60.0,
    Kind.CONVERSION: 10.0,
    Kind.MULTIPLICATION: 5.0,
}
UNIT_CYCLES: Mapping[Kind, float] = {
    Kind.SHUFFLE: 1.0,
    Kind.SPECIAL: 2.0,
    Kind.DIVISION: 4.0,
    Kind.CONVERSION: 0.5,
    Kind.FLOAT: 0.25,
    Kind.INTEGER: 0.6,
    Kind.MULTIPLICATION: 0.6,
}
"""Of a unit, for an instruction of a warp: 32 over its lanes; whole numbers with what the assembler
adds to addresses."""
