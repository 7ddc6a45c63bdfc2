"""What a query costs in energy: board power for as long as a stage's devices are at work.

Published figures give one power, under load. Devices that wait for other stages serve other queries
meanwhile, so their time is not this query's; what weights take to stream in is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planner.ir.problem import Latency

_US_PER_S = 1e6


@dataclass(frozen=True, slots=True)
class Power:
    """Of one device under load, and how often each workload entry runs for a query."""

    watts: float
    weights: tuple[float, ...]

    def joules(self, row: Sequence[Latency | None], degree: int) -> float:
        """Of `degree` devices that spend these times."""
        cells = zip(self.weights, row, strict=True)
        total_us = math.fsum(q * cell.expected_us for q, cell in cells if cell is not None)
        return degree * self.watts * total_us / _US_PER_S
