"""How long a kernel takes that only moves data: start, then bytes over bandwidth.

    memory = bytes / (bandwidth * share), faster by `cache` while everything fits the last cache
    row    = bytes of one row / what one block draws, times waves of rows

Kernels of one block a row (normalisation, softmax, gated activation) are bound by the row as long
as there are fewer rows than multiprocessors; rows beyond a megabyte are split over blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.cost.machine import BLUNTEST, SHARPEST, Machine

Array = npt.NDArray[np.float64]

PRIOR: Mapping[str, tuple[float, float]] = {
    "start": (2.5, 0.8),
    "bandwidth": (0.85, 0.15),
    "cache": (1.8, 0.5),
    "row_rate": (10_000.0, 0.6),
    "sharpness": (4.0, 0.5),
}
"""Parameter -> (typical value, spread in natural logarithm), relative as for products but for
`row_rate`, bytes per microsecond of one block: hardly a matter of the device."""
WITH_MEAN: Mapping[str, tuple[float, float]] = {"start": (2.5, 0.3), "row_rate": (3500.0, 0.6)}
"""Of normalisations by mean and variance: two sums over a row that wait for each other, where the
mean square is one. One width was measured on each of three devices (7 us of 2,560 on an A100, 5 on
an A40, 3.2 of 1,024 on an H200), which are one rate with a start of a usual kernel; without this
they are starts of 6, 5 and 3 us. Chosen with these in sight."""
_LONGEST_ROW_BYTES = 2.0**20
"""Of a row that one block walks: libraries give longer ones to several (cub::DeviceReduce splits at
some thousand elements a thread block)."""


@dataclass(frozen=True, slots=True)
class Flows:
    """Many kernels, as columns."""

    format: str
    """What they do (`Flow`)."""
    size_bytes: Array
    rows: Array
    """0 where a kernel splits as it likes."""

    def part(self, at: npt.NDArray[np.int64] | slice) -> Flows:
        """Some of them."""
        return Flows(self.format, self.size_bytes[at], self.rows[at])


def traffic_us(works: Flows, machine: Machine, at: Mapping[str, float]) -> Array:
    """Microseconds of each kernel."""
    rate = machine.bandwidth * min(at["bandwidth"], 1.0)
    in_cache = 1 / (1 + (works.size_bytes / machine.cache_size_bytes) ** 2)
    memory = works.size_bytes / (rate * (1 + (at["cache"] - 1) * in_cache))
    rows = np.maximum(works.rows, 1.0)
    waves = np.maximum(rows / machine.units, 1.0)
    row = np.minimum(works.size_bytes / rows, _LONGEST_ROW_BYTES) / at["row_rate"] * waves
    row = np.where(works.rows > 0, row, 0.0)
    longest = np.maximum(np.maximum(memory, row), 1e-9)
    power = min(max(at["sharpness"], BLUNTEST), SHARPEST)
    total: Array = longest * ((memory / longest) ** power + (row / longest) ** power) ** (1 / power)
    return at["start"] + total
