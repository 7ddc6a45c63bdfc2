"""How much of the machine's slowness a model feels.

Neighbours on the same hardware do not slow everything down alike: products, of which the reference
probe is made, wait longer for the shared units than what frameworks do between them. Measured on
shared virtual cores: where the probe takes 1.65 times as long as on an undisturbed core, a model of
twenty small operators takes 1.36 times, one of a thousand experts' operators 1.2 times. And threads
that hear of each other late (`planner/cost/state.py`) cost some models nothing and make others take
twice as long. Between states power laws hold within a few percent,

    own = fast * pace ** felt.pace * late ** felt.late

where `pace` is what a probe of one thread takes over what it takes in the fast state, and `late`
how much more than that the probe that all threads share does. The exponents of a model and its
thread pool are learnt from turns of all beside each other, as the ratio of their spreads on the
logarithmic scale (reduced major axis; Warton et al., Bivariate line-fitting methods for allometry,
Biological Reviews 81, 2006): spells are as short as turns, so the two are often in different states
within one round, which would flatten a regression of the one on the other (slopes of 0.45 where the
spreads say 0.8), but over a race both see the same states equally often. Where the probe saw one
state a prior holds.

What a model takes in the fast state is read off its fastest turns: of 322 whole runs, each
predicted from the others of its model, p50 is 4.0 % off in the mean with one thread and 4.7 with
two (7.7 and 8.7 at the ninth decile), 4.7 and 5.3 (9.3 and 11.7) where the mean of all turns is
brought there by the exponent (AMD EPYC, 2026-11-28).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.cost.state import State
from planner.profiling.timing import FAST_SHARE
from planner.spec.estimate import Estimate

USUAL_PACE = 0.8
"""Exponents seen on small and large models: 0.7 to 1.1."""
_NOISE = 0.03
"""Standard deviation of the logarithm of a turn's median within one state."""
_FAINT = 0.05
"""A probe that spread as little as this, beyond the noise, weighs as much as the prior: what a
model does in a quiet hour, threads that meet late above all, tells nothing of neighbours."""
_TINY = 1e-6
_LEAST, _MOST = 0.02, 1.2
"""Spreads that say more than this say it of something else: over 206 whole runs of 27 models each
is predicted from the others 9.6 % off with up to 1.5, 9.3 % with what is nearer 0.9."""
_OUTLIER = 3.0
"""Turns that took so many times as long as the median one were interrupted."""
_EXPONENT_SD = 0.1
"""What a learnt exponent is off by: widens what is predicted for another state."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Feeling:
    """How a model in one thread pool follows the machine's state: exponents."""

    pace: float
    late: float
    """Of one thread, which meets no other, it does not matter."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Medians of turns of one race, microseconds."""

    own_us: Sequence[float]
    """A model's."""
    pool_us: Sequence[float]
    """The probe's with as many threads, each just before one of the model's."""
    alone_us: Sequence[float]
    """The serial probe's, in the same rounds; with one thread the same as the pool's."""

    def logarithms(self) -> tuple[Floats, Floats, Floats]:
        """(own, pool, alone), interrupted turns left out."""
        own, pool, alone = (np.array(us) for us in (self.own_us, self.pool_us, self.alone_us))
        usual = _usual(own) & _usual(pool)
        return np.log(own[usual]), np.log(pool[usual]), np.log(alone[_usual(alone)])


def _usual(us: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return us <= (_OUTLIER * np.median(us) if len(us) else 0.0)


def pace_felt(pairs: Sequence[Beside]) -> float:
    """How what one thread does follows the pace: of variants of one model with one thread."""
    own, pool, _ = _spreads(pairs)
    return _exponent(own, pool, usual=USUAL_PACE, shared=1.0)


def late_felt(pairs: Sequence[Beside], pace: float, usual: float, shared: float) -> float:
    """How variants of one model in one thread pool follow threads that meet late.

    Args:
        pace: how they follow the pace, as `pace_felt` has it.
        usual: the exponent to expect of such a model.
        shared: how much of the model's time the pool's threads work together. Own troubles of what
            one thread runs may spread as far as the probe's, and have nothing to do with it. What
            spread less than expected, though, did not follow the probe.
    """
    own, pool, alone = _spreads(pairs)
    late = max(pool - alone, 0.0)
    return _exponent(max(own - pace**2 * alone, 0.0), late, usual=max(usual, _LEAST), shared=shared)


def _spreads(pairs: Sequence[Beside]) -> Floats:
    """(own, pool, alone): variances between states, the mean over all variants."""
    found: Floats = np.mean(
        [[_spread(each) for each in pair.logarithms()] for pair in pairs], axis=0
    )
    return found


def _spread(logarithms: Floats) -> float:
    """Variance between states."""
    return max(float(np.var(logarithms)) - _NOISE**2, 0.0) if len(logarithms) else 0.0


def _exponent(own: float, probe: float, *, usual: float, shared: float) -> float:
    ratio = math.sqrt(max(own, _TINY) / max(probe, _TINY))
    told = probe / (probe + _FAINT**2) * (shared if ratio > usual else 1.0)
    found = told * math.log(ratio) + (1.0 - told) * math.log(usual)
    return min(max(math.exp(found), _LEAST), _MOST)


def fast_us(pair: Beside, fast: State, felt: Feeling) -> float:
    """The model's time in the state `fast`.

    What all took in their fastest tenth of turns says it, where the machine was in that state so
    long; only what it was not is told by the exponents.
    """
    own, pool, alone = (_fastest_us(each) for each in pair.logarithms())
    seen = State(max(alone, fast.alone_us), max(pool, fast.pool_us))
    return own / slowness(seen, fast, felt)


def _fastest_us(logarithms: Floats) -> float:
    return float(np.exp(np.quantile(logarithms, FAST_SHARE))) if len(logarithms) else 0.0


def slowness(here: State, planned: State, felt: Feeling) -> float:
    """How many times as long as in the state `planned` the model takes `here`."""
    pace, late = _slower(here, planned)
    return math.pow(pace, felt.pace) * math.pow(late, felt.late)


def _slower(here: State, planned: State) -> tuple[float, float]:
    """(pace, late): what is not known is taken for alike."""
    pace = here.alone_us / planned.alone_us if min(here.alone_us, planned.alone_us) > 0 else 1.0
    share = here.pool_us / planned.pool_us if min(here.pool_us, planned.pool_us) > 0 else pace
    return pace, share / pace


def at_state(estimate: Estimate, here: State, planned: State, felt: Feeling) -> Estimate:
    """An estimate made in the state `planned`, brought to the state `here`."""
    factor = slowness(here, planned, felt)
    distance = math.hypot(*(math.log(each) for each in _slower(here, planned)))
    doubt = math.exp(2 * _EXPONENT_SD * distance)
    return Estimate(
        low=estimate.low * factor / doubt,
        expected=estimate.expected * factor,
        high=estimate.high * factor * doubt,
        source=estimate.source,
    )
