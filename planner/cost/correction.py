"""How much longer a whole takes than the sum of its kernels, learnt from whole runs.

A sum of kernels is not a whole: caches, allocation and scheduling between kernels cost time that no
kernel shows. The ratio depends on the thread pool, the graph level and the formats in the model;
each whole run shows it for one combination, with a few percent of noise. So the logarithm of the
ratio is taken as a sum of effects,

    log(whole / sum of kernels) = overall + pool + level + sum(share * format) + noise

with a normal prior on every effect. Were the noise normal too, the posterior would have a closed
form (Bayesian linear regression: Bishop, Pattern Recognition and Machine Learning, 3.49 to 3.59;
the best linear unbiased prediction of mixed models: Henderson 1975). Now and then a run is
disturbed from beginning to end, so the noise has heavy tails (Student's t), and runs are weighted
by how well they fit, again and again (Lange, Little and Taylor 1989, section 4). Few runs give
cautious corrections and wide intervals.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_OVERALL_SIGMA = 0.3
"""Prior standard deviations of the effects, natural logarithm: what whole runs of a score of models
showed, rounded up. Measured ratios lay between 0.7 and 1.5,"""
_POOL_SIGMA = 0.15
"""pools of one model differed by up to a quarter,"""
_LEVEL_SIGMA = 0.05
"""graph levels hardly,"""
_FORMAT_SIGMA = 0.15
"""and formats by up to a quarter."""
_NOISE_SIGMA = 0.04
"""One whole run of a few seconds against another process' run of the same."""
_MODEL_SIGMA = 0.03
"""What the sum of effects leaves out: formats that meet within one model."""
_TAIL = 3.0
"""Degrees of freedom of the noise: one run in ten lies beyond 2.4 standard deviations."""
_ITERATIONS = 30
_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a ratio depends on."""

    pool: str
    level: str
    formats: Mapping[str, float]
    """Format -> its share of the kernels' time; shares add up to 1."""


@dataclass(frozen=True, slots=True)
class WholeRun:
    """One whole run: its circumstances and whole / sum of kernels."""

    name: str
    """Same kernels, same pool: same name."""
    circumstances: Circumstances
    ratio: float


@dataclass(frozen=True, slots=True)
class Factor:
    """Whole / sum of kernels: the median of the posterior with its 95 % interval."""

    low: float
    expected: float
    high: float


class Corrections:
    """The posterior, from whole runs of one model."""

    def __init__(self, runs: Sequence[WholeRun]) -> None:
        self._runs = tuple(runs)
        self._columns = _columns(runs)

    def factor(self, wanted: Circumstances, *, without: Collection[str] = ()) -> Factor:
        """The factor in these circumstances.

        Args:
            without: names of runs to leave out, so that a prediction rests on no run of what it
                predicts.
        """
        used = [run for run in self._runs if run.name not in without]
        mean, deviation = self._posterior(used, self._row(wanted))
        width = _NORMAL_95 * deviation
        return Factor(math.exp(mean - width), math.exp(mean), math.exp(mean + width))

    def _posterior(
        self, runs: Sequence[WholeRun], wanted: npt.NDArray[np.float64]
    ) -> tuple[float, float]:
        prior = np.diag([sigma**-2 for sigma in self._columns.values()])
        rows = np.array([self._row(run.circumstances) for run in runs]).reshape(-1, len(prior))
        seen = np.log([run.ratio for run in runs])
        weights = np.full(len(runs), _NOISE_SIGMA**-2)
        for _ in range(_ITERATIONS):
            precision = prior + rows.T @ (weights[:, None] * rows)
            mean = np.linalg.solve(precision, rows.T @ (weights * seen))
            squares = ((seen - rows @ mean) / _NOISE_SIGMA) ** 2
            weights = (_TAIL + 1) / (_TAIL + squares) * _NOISE_SIGMA**-2
        spread = float(wanted @ np.linalg.solve(precision, wanted))
        return float(wanted @ mean), math.sqrt(spread + _NOISE_SIGMA**2 + _MODEL_SIGMA**2)

    def _row(self, at: Circumstances) -> npt.NDArray[np.float64]:
        weights = {"": 1.0, f"pool {at.pool}": 1.0, f"level {at.level}": 1.0}
        weights.update({f"format {name}": share for name, share in at.formats.items()})
        return np.array([weights.get(name, 0.0) for name in self._columns])


def _columns(runs: Sequence[WholeRun]) -> dict[str, float]:
    """Effect -> its prior standard deviation, in a fixed order."""
    found = {"": _OVERALL_SIGMA}
    for run in runs:
        at = run.circumstances
        found.setdefault(f"pool {at.pool}", _POOL_SIGMA)
        found.setdefault(f"level {at.level}", _LEVEL_SIGMA)
        for name in at.formats:
            found.setdefault(f"format {name}", _FORMAT_SIGMA)
    return dict(sorted(found.items()))
