"""A number with its interval and its source: shared by all sections of plan.json."""

from __future__ import annotations

from typing import Literal

from planner.spec.base import Document


class Estimate(Document):
    """A number with its 95 % interval and its source."""

    low: float
    expected: float
    high: float
    source: Literal["measured", "interpolated", "modelled"]

    def scaled(self, factor: float) -> Estimate:
        """The same estimate `factor` times."""
        return Estimate(
            low=self.low * factor,
            expected=self.expected * factor,
            high=self.high * factor,
            source=self.source,
        )
