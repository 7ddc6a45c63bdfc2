"""From a sum of sensitivities to what a whole plan's error will be.

    expected = scale · Σ e(op, format)          high = high_factor · expected

The sum overcounts where neighbours round the same tensor and undercounts where errors interact, by
much the same factor across the plans of one model: a few plans built and measured as a whole
("probes") tell `scale` (the median of measured / predicted) and `high_factor`, an upper bound of
measured / expected for a new plan. The bound is split-conformal: with n probes the k-th smallest
ratio, k = ceil((n + 1)·confidence), covers a new exchangeable plan with that probability (Vovk,
Gammerman and Shafer 2005; Lei et al., JASA 113 (2018) 1094-1111). With fewer probes than that needs
(19 at 95 %), the largest ratio times a margin stands in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PRIOR_FACTOR = 4.0
"""Upper factor without any probe: an assumption, replaced by the first probes."""
_FEW_MARGIN = 1.5
"""Widens the largest ratio of too few probes."""


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """Correction of additive predictions."""

    scale: float = 1.0
    high_factor: float = PRIOR_FACTOR
    probes: int = 0

    def predict(self, summed: float) -> tuple[float, float]:
        """(expected, high) NMSE of a plan whose sensitivities sum to `summed`."""
        expected = self.scale * summed
        return expected, self.high_factor * expected

    @property
    def basis(self) -> str:
        """What the bound rests on."""
        return "calibrated" if self.probes else "measured"


def fit(probes: Sequence[tuple[float, float]], confidence: float = 0.95) -> ErrorModel:
    """From (predicted sum, measured joint NMSE) pairs; those with no finite ratio are left out."""
    ratios = sorted(
        measured / predicted
        for predicted, measured in probes
        if predicted > 0 and math.isfinite(measured) and measured > 0
    )
    if not ratios:
        return ErrorModel()
    scale = float(np.median(ratios))
    rank = math.ceil((len(ratios) + 1) * confidence)
    if rank <= len(ratios):
        return ErrorModel(scale, max(ratios[rank - 1] / scale, 1.0), len(ratios))
    return ErrorModel(scale, max(ratios[-1] / scale, 1.0) * _FEW_MARGIN, len(ratios))
