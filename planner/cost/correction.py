"""How much longer a whole takes than the sum of its kernels, learnt from whole runs.

A sum of kernels is not a whole: caches, allocation and scheduling between kernels cost time that no
kernel shows. The ratio depends on the thread pool, the graph level and the formats in the model;
each whole run shows it for one combination, with a few percent of noise. So the logarithm of the
ratio is taken as a sum of effects,

    log(whole / sum of kernels) = overall + pool + late * log(1 + met) + level
                                  + sum(share * format) + noise

with a normal prior on every effect. `met` is what threads that meet at the end of every kernel are
expected to lose so (`planner/cost/meeting.py`), over the sum of kernels; `late`, about 1, is how
much of it they do lose in a pool. Were the noise normal too, the posterior would have a closed form
(Bayesian linear regression: Bishop, Pattern Recognition and Machine Learning, 3.49 to 3.59; the
best linear unbiased prediction of mixed models: Henderson 1975). Now and then a run is disturbed
from beginning to end, so the noise has heavy tails (Student's t), and runs are weighted by how well
they fit, again and again (Lange, Little and Taylor 1989, section 4); formats' priors are weighted
alike. A run whose kernels' own times were not sure tells as much less: one convolution that two
threads never had both cores for (55 to 245 us) made every run of its pool say that wholes take 0.6
times their kernels. Few runs give cautious corrections and wide intervals.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.ir.cost import Cost
from planner.spec.formats import Format
from planner.spec.session import SessionSettings

Floats = np.ndarray[Any, np.dtype[np.float64]]

_OVERALL_SIGMA = 0.3
"""Prior standard deviations of effects, natural logarithm, rounded from the fit that gave the
likeliest prediction of each of 206 whole runs of 27 models from the others of its model
(2026-11-27, two cores of an Intel Xeon with 1 MB of private cache each, beside busy neighbours,
ONNX Runtime 1.31.1): 8.4 % off in the mean, 5.7 % in the median, 89 % inside the interval. What all
runs of a model share is large where activations outgrow the private caches, for kernels are timed
while they have what they read: wholes took 0.7 to 1.5 times the sum of their kernels."""
_LEVEL_SIGMA = 0.05
_FORMAT_SIGMA, _FORMAT_TAIL = 0.05, 2.0
_NOISE_SIGMA = 0.05
"""One whole run of a few seconds against another process' run of the same."""
_MODEL_SIGMA = 0.03
"""What the sum of effects leaves out: formats that meet within one model."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Of an effect on the logarithm of a ratio."""

    mean: float
    sigma: float
    tail: float = math.inf
    """Degrees of freedom: formats are mostly alike, but one may outgrow a cache."""


_USUAL_FORMAT = Prior(0.0, _FORMAT_SIGMA, _FORMAT_TAIL)
_ONE_THREAD, _THREADS = Prior(0.0, 0.05), Prior(0.0, 0.03)
"""Pools but for what is lost where threads meet."""
_LATE = Prior(1.0, 0.5)
"""From 322 whole runs of 42 models, each predicted from the others of its model (2026-11-28, two
cores of an EPYC): one thread 4.1 % off in the mean, two 4.7, two that sleep 7.5; 4.5, 5.8 and 14.2
where a pool's effect grew with the share of time that its threads work together."""
_FORMATS: Mapping[str, Prior] = {
    name: Prior(0.05, 0.1, _FORMAT_TAIL)
    for name in (Format.INT8_STATIC, Format.INT8_DYNAMIC, Format.INT8_DYNAMIC_SMOOTH)
}
"""Integer products have short passes around them (quantise, cast, scale, transpose) that find
activations in nearer caches among copies than in a whole: profiles of wholes show such passes 1.4
to 2.8 times as long as alone, convolutions 0.8 to 1.1 times. Judged on 157 whole runs of 19 models
(2026-11-28, two cores of an EPYC with 1 MiB of private cache each), each predicted from the others
of its model: with one thread 6.4 % off in the mean instead of 7.6, with two 11.9 instead of 11.6,
which others' load on the second core makes."""
_TAIL = 3.0
"""Degrees of freedom of the noise: one run in ten lies beyond 2.4 standard deviations."""
_ITERATIONS = 30
_NORMAL_95 = 1.96


def doubt(cost: Cost) -> float:
    """Standard deviation of the logarithm of what has this 95 % interval."""
    return math.log(cost.high_us / cost.low_us) / (2 * _NORMAL_95) if cost.low_us > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a ratio depends on."""

    session: SessionSettings
    formats: Mapping[str, float]
    """Format -> its share of the kernels' time; shares add up to 1."""
    met: float = 0.0
    """What threads are expected to lose where they meet, over the sum of kernels."""

    def effects(self) -> dict[str, tuple[float, Prior]]:
        """Effect -> how much of it is in here, and what is known of it beforehand."""
        effects = {
            "": (1.0, Prior(0.0, _OVERALL_SIGMA)),
            f"pool {self.session.pool}": (1.0, self._of_pool()),
            f"late {self.session.pool}": (math.log1p(self.met), _LATE),
            f"level {self.session.graph_level}": (1.0, Prior(0.0, _LEVEL_SIGMA)),
        }
        for name, share in self.formats.items():
            effects[f"format {name}"] = (share, _FORMATS.get(name, _USUAL_FORMAT))
        return effects

    def _of_pool(self) -> Prior:
        return _ONE_THREAD if self.session.intra_op_threads == 1 else _THREADS


@dataclass(frozen=True, slots=True)
class WholeRun:
    """One whole run: its circumstances and whole / sum of kernels."""

    name: str
    """Same kernels, same pool: same name."""
    circumstances: Circumstances
    ratio: float
    doubt: float = 0.0
    """Standard deviation of the logarithm of the sum of kernels."""


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

    def factor(self, wanted: Circumstances, *, without: Collection[str] = ()) -> Factor:
        """The factor in these circumstances.

        Args:
            without: names of runs to leave out, so that a prediction rests on no run of what it
                predicts.
        """
        used = [run for run in self._runs if run.name not in without]
        mean, deviation = _posterior(used, wanted)
        width = _NORMAL_95 * deviation
        return Factor(math.exp(mean - width), math.exp(mean), math.exp(mean + width))


def _posterior(runs: Sequence[WholeRun], wanted: Circumstances) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm."""
    known = _priors([*(run.circumstances for run in runs), wanted])
    usual = np.array([prior.mean for prior in known.values()])
    certainty = np.array([prior.sigma**-2 for prior in known.values()])
    tails = np.array([prior.tail for prior in known.values()])
    heed = np.ones(len(known))
    rows = np.array([_row(run.circumstances, known) for run in runs]).reshape(-1, len(known))
    seen = np.log([run.ratio for run in runs]) - rows @ usual
    noise = _NOISE_SIGMA**2 + np.array([run.doubt for run in runs]) ** 2
    weights = 1.0 / noise
    for _ in range(_ITERATIONS):
        precision = np.diag(heed * certainty) + rows.T @ (weights[:, None] * rows)
        mean = np.linalg.solve(precision, rows.T @ (weights * seen))
        squares = (seen - rows @ mean) ** 2 / noise
        weights = (_TAIL + 1) / (_TAIL + squares) / noise
        heed = (1 + 1 / tails) / (1 + mean**2 * certainty / tails)
    row = _row(wanted, known)
    spread = float(row @ np.linalg.solve(precision, row))
    return float(row @ (mean + usual)), math.sqrt(spread + _NOISE_SIGMA**2 + _MODEL_SIGMA**2)


def _priors(all_of_them: Sequence[Circumstances]) -> dict[str, Prior]:
    """Effect -> what is known of it beforehand, in a fixed order."""
    found = {name: prior for at in all_of_them for name, (_, prior) in at.effects().items()}
    return dict(sorted(found.items()))


def _row(at: Circumstances, known: Mapping[str, Prior]) -> Floats:
    shares = {name: share for name, (share, _) in at.effects().items()}
    return np.array([shares.get(name, 0.0) for name in known])
