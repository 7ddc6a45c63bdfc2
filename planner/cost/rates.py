"""What a device takes for the parts of a fused schedule, from its profile.

What a profile does not say is scaled from the H200, the device that was measured: latencies by the
clock, rates by multiprocessors times clock (`benchmarks/notes/gpu_constants.md`).
"""

from __future__ import annotations

from planner.kernels.estimate import H200, Rates
from planner.spec.profile import DeviceProfile

_H200_CLOCK_HZ = 1.98e9
_H200_CACHE_BYTES = 60e6
_GRAPH_NODE_US = 1.29
"""A dependent stage as a plain graph node (measured on an H200): without dependent launch."""
_HARD_NODE_US = 1.0
"""The same for a tiny kernel (measured on an H200)."""
_REACHED = {"float16": ("fp16", 0.394), "bfloat16": ("bf16", 0.394), "float32": ("fp32", 0.388)}
"""Share of the datasheet's peak that small tiles reach (H200: 390 of 989, 26 of 67 T/s)."""
_DRAM_REACHED = 0.97
"""Share of the datasheet's bandwidth that reads reach (H200: 4.65 of 4.8 TB/s)."""
_FIRST_DEPENDENT = 90
_OPS_PER_US = 1e-6


def capability(profile: DeviceProfile) -> int:
    """`sm_90` -> 90; 0 where the profile does not say."""
    text = (profile.architecture or "").removeprefix("sm_")
    return int(text) if text.isdigit() else 0


def rates_of(profile: DeviceProfile) -> Rates:
    """Rates and latencies of a CUDA device."""
    clock_hz = profile.clock.value if profile.clock else _H200_CLOCK_HZ
    slower = _H200_CLOCK_HZ / clock_hz
    wider = profile.units / H200.units / slower
    ahead = capability(profile) >= _FIRST_DEPENDENT
    cache = profile.cache_size.value if profile.cache_size else _H200_CACHE_BYTES
    return Rates(
        link_us=H200.link_us * slower if ahead else _GRAPH_NODE_US * slower,
        hard_link_us=H200.hard_link_us * slower if ahead else _HARD_NODE_US * slower,
        barrier_us=profile.barrier.value if profile.barrier else H200.barrier_us * slower,
        l2_bytes_per_us=H200.l2_bytes_per_us * wider,
        pace=H200.pace.slowed(slower, wider),
        dram_bytes_per_us=_DRAM_REACHED * profile.memory_bandwidth.value * _OPS_PER_US,
        l2_size_bytes=H200.l2_size_bytes * cache / _H200_CACHE_BYTES,
        flops_per_us={
            dtype: share * profile.peak[name].value * _OPS_PER_US
            for dtype, (name, share) in _REACHED.items()
            if name in profile.peak
        },
        units=profile.units,
        cycle_us=H200.cycle_us * slower,
        has_dependent_launch=ahead,
    )
