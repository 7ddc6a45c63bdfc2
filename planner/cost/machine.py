"""The few numbers of a device that kernel models are written in."""

from __future__ import annotations

from dataclasses import dataclass

from planner.cost.pace import slowness_of
from planner.spec.profile import DeviceProfile

STAND_INS = {
    "int8_wo": "fp16",
    "int4_wo": "fp16",
    "2:4_int8": "int8",
    "bf16": "fp16",
}
"""Format -> the format it multiplies in, where a profile does not name it itself. bf16 has the
tensor rate of fp16 wherever it exists at all (see `bf16` in `_NEEDS`)."""
_FASTER = {"2:4_int8": 2.0}
"""Format -> its rate over that of its stand-in: sparse tensor cores skip half of the multiply-adds
(NVIDIA A100 datasheet: 1248 against 624 Top/s)."""
_NEEDS = {"bf16": 80, "tf32": 80, "2:4": 80, "2:4_int8": 80, "fp8": 89}
"""Format -> lowest compute capability (CUDA C++ programming guide, arithmetic of tensor cores)."""
BLUNTEST, SHARPEST = 0.5, 16.0
"""Powers of the norms that join bounds: beyond the last, a norm is the longest of them."""
DEFAULT_CACHE_BYTES = 4e6
"""Of the last cache, where a profile is silent."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Rates in units per microsecond."""

    units: int
    """Multiprocessors, or cores."""
    bandwidth: float
    """Bytes per microsecond of device memory."""
    cache_size_bytes: float
    peak: dict[str, float]
    """Format -> operations per microsecond."""
    capability: int
    """80 for sm_80; 0 for what is no CUDA device."""
    slowness: float = 1.0
    """Length of a cycle, where that of the reference is 1."""

    @classmethod
    def of(cls, device: DeviceProfile) -> Machine:
        """The numbers of one profile."""
        name = device.architecture or ""
        digits = "".join(c for c in name.removeprefix("sm_") if c.isdigit())
        return cls(
            units=device.units,
            bandwidth=device.memory_bandwidth.value / 1e6,
            cache_size_bytes=device.cache_size.value if device.cache_size else DEFAULT_CACHE_BYTES,
            peak={name: _rate(device, name) / 1e6 for name in device.peak},
            capability=int(digits) if name.startswith("sm_") else 0,
            slowness=slowness_of(device),
        )

    def rate(self, format: str) -> float:
        """Operations per microsecond in a format; 0 where the device lacks it."""
        if 0 < self.capability < _NEEDS.get(format, 0):
            return 0.0
        if format in self.peak:
            return self.peak[format]
        return self.peak.get(STAND_INS.get(format, ""), 0.0) * _FASTER.get(format, 1.0)


def _rate(device: DeviceProfile, format: str) -> float:
    """The peak, or what board power sustains of it."""
    peak = device.peak[format].value
    return min(peak, device.sustained[format].value) if format in device.sustained else peak
