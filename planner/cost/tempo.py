"""How much of the machine's slowness a model feels.

Neighbours on the same hardware do not slow everything down alike: products, of which the reference
probe is made, wait longer for the shared units than what frameworks do between them. Measured on
shared virtual cores: where the probe takes 1.65 times as long as on an undisturbed core, a model of
twenty small operators takes 1.36 times, one of a thousand experts' operators 1.2 times. Between the
two states a power law holds within a few percent,

    own = fast * (probe / probe_fast) ** exponent

with one exponent for a model and its thread pool. It is learnt from turns of both beside each
other, as the ratio of their spreads on the logarithmic scale (reduced major axis; Warton et al.,
Bivariate line-fitting methods for allometry, Biological Reviews 81, 2006): spells are as short as
turns, so the two are often in different states within one round, which would flatten a regression
of the one on the other (slopes of 0.45 where the spreads say 0.8), but over a race both see the
same states equally often. Where the probe saw one state a prior holds.

What a model takes in the fast state is read off its fastest turns: of 322 whole runs, each
predicted from the others of its model, p50 is 4.0 % off in the mean with one thread and 4.7 with
two (7.7 and 8.7 at the ninth decile), 4.7 and 5.3 (9.3 and 11.7) where the mean of all turns is
brought there by the exponent (AMD EPYC, 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.profiling.timing import FAST_SHARE
from planner.spec.estimate import Estimate

_PRIOR = 0.8
"""Exponents seen on small and large models: 0.7 to 1.1."""
_NOISE = 0.03
"""Standard deviation of the logarithm of a turn's median within one state."""
_FAINT = 0.05
"""A probe that spread as little as this, beyond the noise, weighs as much as the prior: what a
model does in a quiet hour, threads that meet late above all, tells nothing of neighbours."""
_TINY = 1e-6
_LEAST, _MOST = 0.1, 1.2
"""Spreads that say more than this say it of threads that met late: over 206 whole runs of 27
models each is predicted from the others 9.6 % off with up to 1.5, 9.3 % with what is nearer 0.9."""
_OUTLIER = 3.0
"""Turns that took so many times as long as the median one were interrupted."""
_EXPONENT_SD = 0.1
"""What a learnt exponent is off by: widens what is predicted for another state."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Beside:
    """Medians of a model's turns and of the probe's turns just before them, microseconds; as many
    of the one as of the other."""

    own_us: Sequence[float]
    probe_us: Sequence[float]

    def logarithms(self) -> tuple[Floats, Floats]:
        """(own, probe), interrupted turns left out."""
        own, probe = np.array(self.own_us), np.array(self.probe_us)
        usual = (own <= _OUTLIER * np.median(own)) & (probe <= _OUTLIER * np.median(probe))
        return np.log(own[usual]), np.log(probe[usual])


def exponent(pairs: Sequence[Beside], shared: float = 1.0) -> float:
    """The exponent that all of these share: variants of one model in one thread pool.

    Args:
        shared: how much of the model's time the pool's threads work together. A probe that waits
            for a thread whose core is taken says nothing of what runs on the others, whatever the
            two spread. What spread less than expected, though, did not follow it.
    """
    usual = max(_PRIOR * shared, _LEAST)
    spreads = [[_spread(each) for each in pair.logarithms()] for pair in pairs]
    own, probe = np.mean(spreads, axis=0)
    ratio = np.sqrt(max(own, _TINY) / max(probe, _TINY))
    told = probe / (probe + _FAINT**2) * (shared if ratio > usual else 1.0)
    found = np.exp(told * np.log(ratio) + (1.0 - told) * np.log(usual))
    return float(np.clip(found, _LEAST, _MOST))


def _spread(logarithms: Floats) -> float:
    """Variance between states."""
    return max(float(np.var(logarithms)) - _NOISE**2, 0.0)


def fast_us(pair: Beside, probe_fast_us: float, exponent: float) -> float:
    """The model's time in the state in which the probe takes `probe_fast_us`.

    What both took in their fastest tenth of turns says it, where the machine was in that state so
    long; only what it was not is told by the exponent.
    """
    own, probe = (float(np.exp(np.quantile(each, FAST_SHARE))) for each in pair.logarithms())
    return own * slowness(min(probe_fast_us, probe), probe, exponent)


def slowness(probe_us: float, probe_fast_us: float, exponent: float) -> float:
    """How many times as long the model takes where the probe takes `probe_us`."""
    return float((probe_us / probe_fast_us) ** exponent)


def at_state(estimate: Estimate, probe_us: float, planned_us: float, exponent: float) -> Estimate:
    """An estimate made where the probe took `planned_us`, brought to where it takes `probe_us`."""
    doubted = (exponent - 2 * _EXPONENT_SD, exponent + 2 * _EXPONENT_SD)
    factors = sorted(slowness(probe_us, planned_us, each) for each in doubted)
    return Estimate(
        low=estimate.low * factors[0],
        expected=estimate.expected * slowness(probe_us, planned_us, exponent),
        high=estimate.high * factors[1],
        source=estimate.source,
    )
