"""NMSE of each output over many runs, without keeping the runs.

    NMSE = Σ_runs Σ (value - reference)² / Σ_runs Σ reference²

Outputs that are not floats count as `planner.runtime.compare` counts them: the share that differs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planner.runtime.compare import nmse


@dataclass(slots=True)
class PooledError:
    """Running sums per output name."""

    noise: dict[str, float] = field(default_factory=dict)
    power: dict[str, float] = field(default_factory=dict)

    def add(self, reference: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """One run's outputs."""
        for name, expected in reference.items():
            noise, power = _sums(expected, values[name])
            self.noise[name] = self.noise.get(name, 0.0) + noise
            self.power[name] = self.power.get(name, 0.0) + power

    @property
    def per_output(self) -> dict[str, float]:
        """NMSE by output; an output without power is 0 if it is met exactly, else infinite."""
        return {name: _ratio(self.noise[name], self.power[name]) for name in self.noise}

    @property
    def worst(self) -> float:
        """The largest of them; 0 without outputs."""
        return max(self.per_output.values(), default=0.0)


def _ratio(noise: float, power: float) -> float:
    if noise == 0.0:
        return 0.0
    return noise / power if power > 0.0 else math.inf


def _sums(expected: Any, found: Any) -> tuple[float, float]:
    first, second = np.asarray(expected), np.asarray(found)
    plain = first.dtype.kind == "f" and second.dtype.kind == "f" and first.shape == second.shape
    if not plain or not np.isfinite(first).all():
        size = float(max(first.size, 1))
        return nmse(expected, found) * size, size
    wide = first.astype(np.float64)
    difference = second.astype(np.float64) - wide
    # Not a dot product: BLAS wakes its thread pool, which costs more than these sums.
    noise, power = float(np.sum(np.square(difference))), float(np.sum(np.square(wide)))
    return (noise if math.isfinite(noise) else math.inf), power


def named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Outputs of a run by name."""
    return dict(zip(names, values, strict=True))
