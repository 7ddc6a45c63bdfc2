"""What a model occupies on a device, learnt per software as times are.

    bytes = weights * w + cache * c + activations * a + context

`weights` and `cache` are what tensors add up to, `activations` the inputs, results and inner layer
of one layer at a time, `context` what the driver, libraries and allocators keep. Factors are fitted
where software was weighed, and typical where it was not, with the interval that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.cost.curves import Library
from planner.cost.fitted import fitted
from planner.ir.cost import Source

Array = npt.NDArray[np.float64]

PRIOR: Mapping[str, tuple[float, float]] = {
    "weights": (1.0, 0.05),
    "cache": (1.0, 0.2),
    "activations": (1.5, 0.7),
    "context": (0.9, 0.6),
}
"""Factor -> (typical value, spread in natural logarithm); `context` in 10^9 bytes."""
_GUESS = (0.85, 1.35)
"""Interval of a software nobody weighed."""
_GB = 1e9
DRIVER_BYTES = 552e6
"""Of a context without any library: 552.4 MB gone after cuDevicePrimaryCtxRetain on an H200 (driver
580.159.04, 2026-11-28). Other devices: assumed alike."""


@dataclass(frozen=True, slots=True)
class Occupied:
    """Bytes with their 95 % interval."""

    low_bytes: float
    expected_bytes: float
    high_bytes: float
    source: Source


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Of one software."""

    factors: Mapping[str, float]
    band: tuple[float, float]
    source: Source

    @property
    def context_bytes(self) -> float:
        """What is gone before a model is there."""
        return self.factors["context"] * _GB

    def occupied(
        self, weight_bytes: float, cache_bytes: float = 0.0, activation_bytes: float = 0.0
    ) -> Occupied:
        """Of one device."""
        parts = np.array([[weight_bytes, cache_bytes, activation_bytes]]) / _GB
        total = float(total_gb(parts, self.factors)[0]) * _GB
        low, high = self.band
        return Occupied(total * low, total, total * high, self.source)


def total_gb(parts: Array, at: Mapping[str, float]) -> Array:
    """10^9 bytes of each row.

    Args:
        parts: [rows, 3]: weights, cache and activations in 10^9 bytes.
    """
    weights, cache, activations = parts.T
    held = at["weights"] * weights + at["cache"] * cache
    total: Array = held + at["activations"] * activations + at["context"]
    return total


def typical() -> dict[str, float]:
    """Factors where no software is known."""
    return {name: value for name, (value, _) in PRIOR.items()}


def find(library: Library, software: str | None = None) -> MemoryModel:
    """What was learnt of a software, or what is typical."""
    curve = library.memory(software) if software else None
    if curve is None:
        return MemoryModel(typical(), _GUESS, Source.MODELLED)
    fit = fitted(curve)
    return MemoryModel(fit.parameters, fit.band(float("inf")), Source.INTERPOLATED)
