"""Where a kernel's expected time goes: arithmetic, memory, launches; and the hardware's floor."""

from __future__ import annotations

from dataclasses import dataclass

from planner.cost.predictor import Predictor
from planner.cost.work import Recurrence, Traffic, Work

_STAND_INS = {"int8_wo": "fp16", "int4_wo": "fp16", "2:4_int8": "int8"}
"""Format -> the one it multiplies in."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Where expected time goes, microseconds; `floor_us` is what the hardware's peaks allow."""

    compute_us: float = 0.0
    memory_us: float = 0.0
    communication_us: float = 0.0
    launch_us: float = 0.0
    floor_us: float = 0.0

    def __add__(self, other: Parts) -> Parts:
        return Parts(
            self.compute_us + other.compute_us,
            self.memory_us + other.memory_us,
            self.communication_us + other.communication_us,
            self.launch_us + other.launch_us,
            self.floor_us + other.floor_us,
        )

    def scaled(self, factor: float) -> Parts:
        """The same `factor` times."""
        return Parts(
            self.compute_us * factor,
            self.memory_us * factor,
            self.communication_us * factor,
            self.launch_us * factor,
            self.floor_us * factor,
        )


class Spending:
    """Splits expected times by the datasheet of one device."""

    def __init__(self, predictor: Predictor) -> None:
        peak = predictor.device.peak
        self._launch_us = predictor.launch_us
        self._bandwidth = predictor.device.memory_bandwidth.value / 1e6
        self._peak = {name: quantity.value / 1e6 for name, quantity in peak.items()}

    def parts(self, work: Work, expected_us: float) -> Parts:
        """Of a kernel: what is no launch is what bounds it; of a recurrence, whose every step is a
        kernel that reads its weights again, what is no arithmetic is memory."""
        name = "fp16" if isinstance(work, Traffic) else work.format
        peak = self._peak.get(_STAND_INS.get(name, name)) or max(self._peak.values())
        compute, memory = work.flops / peak, work.size_bytes / self._bandwidth
        steps, floor = work.steps if isinstance(work, Recurrence) else 1, max(compute, memory)
        launch = min(steps * self._launch_us, expected_us)
        rest = expected_us - launch
        if steps > 1:
            compute = min(compute, rest)
            return Parts(compute, rest - compute, 0.0, launch, floor)
        if compute >= memory and not isinstance(work, Traffic):
            return Parts(compute_us=rest, launch_us=launch, floor_us=floor)
        return Parts(memory_us=rest, launch_us=launch, floor_us=floor)
