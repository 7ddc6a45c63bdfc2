"""What measuring adds to every kernel, where a source is one that nobody knows.

Some sources time kernels on the device, others calls of an eager framework with launch and
synchronisation: starts of published curves lie between 1 and 40 us for one chip. A source whose
kernels are to be predicted and that taught nothing may be any of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from planner.spec.fits import Curve

_FEWEST = 3
"""Sources that say anything of the next."""
_COVERED = 0.95


def publisher_of(curve: Curve) -> str:
    """The first source that a curve was learnt from."""
    words = curve.source.rpartition("published by ")[2].split()
    return words[0].strip(",").lower() if words else ""


def start_range(curves: Iterable[Curve]) -> tuple[float, float] | None:
    """Microseconds between which the starts of another source's kernels lie: Student's interval of
    the next of a normal sample, each source's mean in logarithm being one. None: too few."""
    from scipy.special import stdtrit

    starts: dict[str, list[float]] = {}
    for curve in curves:
        start = curve.parameters.get("start", 0.0)
        if start > 0 and publisher_of(curve):
            starts.setdefault(publisher_of(curve), []).append(float(np.log(start)))
    if len(starts) < _FEWEST:
        return None
    means = np.array([np.mean(each) for each in starts.values()])
    count = len(means)
    quantile = float(stdtrit(count - 1, (1 + _COVERED) / 2))
    half = quantile * float(means.std(ddof=1)) * (1 + 1 / count) ** 0.5
    centre = float(means.mean())
    return float(np.exp(centre - half)), float(np.exp(centre + half))
