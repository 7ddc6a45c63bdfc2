"""What of a kernel is counted in cycles: it passes faster on a device with a faster clock.

A block's first loads, the last of its pipeline, the joining of splits and what the front end takes
to start a kernel are latencies in cycles, whatever the rates of a device. Parameters are written
down as an A100 takes them. That holds where a price is that of one kernel: products of plain floats
and flows. Formats with kernels of their own and attentions are priced as calls of a library, of
several kernels and of scales, whose times are launches; and a start beyond a launch is the host's,
or of the clock that measured.
"""

from __future__ import annotations

from collections.abc import Mapping

from planner.spec.profile import DeviceProfile

REFERENCE_HZ = 1.41e9
"""Clock of an A100 (NVIDIA A100 datasheet, boost), in whose microseconds parameters stand."""
_CYCLES = frozenset({"prologue", "split"})
"""Parameters in microseconds that are cycles on the device."""
_PER_CYCLE = frozenset({"row_rate"})
"""Parameters that are rates of one block."""
_DEVICE_START_US = 2.0
"""Of a start, what a device takes itself: kernels behind kernels start every 1.7 to 1.9 us on an
H200."""


def slowness_of(device: DeviceProfile) -> float:
    """Cycles of the reference over those of a device; 1 where the clock is not known."""
    is_gpu = (device.architecture or "").startswith("sm_")
    return REFERENCE_HZ / device.clock.value if is_gpu and device.clock else 1.0


def paced(at: Mapping[str, float], slowness: float) -> dict[str, float]:
    """Parameters as a device takes them."""
    return {name: _paced(name, value, slowness) for name, value in at.items()}


def started_us(start_us: float, slowness: float) -> float:
    """A start as a device takes it."""
    return start_us + (slowness - 1) * min(start_us, _DEVICE_START_US)


def _paced(name: str, value: float, slowness: float) -> float:
    if name == "start":
        return started_us(value, slowness)
    if name in _CYCLES:
        return value * slowness
    return value / slowness if name in _PER_CYCLE else value
