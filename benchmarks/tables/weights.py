"""How much each group of measurements counts for devices in general: chips count alike."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from planner.spec.fits import FitFile
from planner.spec.profile import DeviceProfile

_PER_CHIP = 250
"""Points of each chip that general parameters are learnt from: cards of one chip, and formats of
one class on them, err together."""


def chip(what: FitFile | DeviceProfile) -> tuple[str | None, int | None]:
    """Equal for cards of one chip."""
    return what.architecture, what.units


def alike(chips: Sequence[Hashable], points: Sequence[int]) -> npt.NDArray[np.float64]:
    """How many of each group's points count, where no chip counts more than another.

    Args:
        chips: of each group.
        points: of each group.
    """
    counts = np.minimum(points, _PER_CHIP).astype(np.float64)
    together = np.array([counts[[c == each for c in chips]].sum() for each in chips])
    found: npt.NDArray[np.float64] = counts * np.minimum(1.0, _PER_CHIP / together)
    return found
