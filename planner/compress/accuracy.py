"""Did the engine keep its accuracy? A paired comparison with an upper confidence bound of the drop.

Both engines answer the same n samples, so only samples on which they differ carry information.

Right-or-wrong metrics (top1): b samples were right and became wrong, c the other way, drop =
(b - c)/n. The bound is the larger of
- Tango's score bound for the difference of paired proportions (Tango, Statistics in Medicine 17
  (1998) 891-908; recommended by Newcombe, ibid. 2635-2650): the drop δ at which
  (b - c - nδ) / sqrt(n(2·q + δ(1 - δ))) = -z, q the constrained maximum-likelihood estimate of the
  rate of c;
- the exact (Clopper-Pearson, Biometrika 26 (1934) 404-413) bound of max(b - c, 0) flips in n:
  without any flip 1 - α^(1/n), so that 0.5 points at 95 % need 598 samples.

Other metrics: the percentile bootstrap over samples, both engines resampled together (Efron and
Tibshirani 1993, chapter 13), fixed seed. Metrics made of discrete answers (f1) add what the flips
not seen could cost: the largest change by one flip, times the exact bound on unseen flips.

A user's own metric is one number a run: its drop is measured, and nothing is proved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.compress.base import Array
from planner.compress.metrics import Metric, MetricResult, metric_named

Verdict = Literal["kept", "broken", "unprovable"]
Basis = Literal["proved", "calibrated", "measured"]
RESAMPLES = 2000
"""Bootstrap resamples: the 95 % point is then known to about 0.5 % of the spread."""
_FEWEST = 30
"""Fewer samples than this and a bootstrap means nothing."""
_SEARCH_LIMIT = 1 << 40


@dataclass(frozen=True, slots=True)
class Comparison:
    """Baseline against engine on one data set."""

    baseline: float
    value: float
    drop: float
    """Loss in the metric's own unit; negative where the engine is better."""
    drop_high: float | None
    """Upper bound at the confidence asked; None where nothing bounds it."""
    samples: int
    verdict: Verdict
    samples_needed: int | None
    """Where `unprovable`: samples that would prove it if they behave like these; None if none."""
    basis: Basis


def compare(
    baseline: MetricResult,
    engine: MetricResult,
    metric: str,
    max_drop: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """The verdict on `drop <= max_drop`.

    `kept`: the upper bound holds (for a user's metric: the measured drop does). `broken`: the
    measured drop exceeds the limit. `unprovable`: the measured drop is within the limit, but too
    few samples show it.
    """
    if baseline.per_sample is None or engine.per_sample is None:
        drop = baseline.value - engine.value
        verdict: Verdict = "kept" if drop <= max_drop else "broken"
        return Comparison(baseline.value, engine.value, drop, None, 0, verdict, None, "measured")
    kind = metric_named(metric)
    sign = 1.0 if kind.higher_is_better else -1.0
    drop = sign * (baseline.value - engine.value)
    before, after = baseline.per_sample, engine.per_sample
    samples = len(before)
    high = _drop_high(kind, before, after, drop, confidence, seed)
    verdict = "broken" if drop > max_drop else "kept" if high <= max_drop else "unprovable"
    needed = None
    if verdict == "unprovable":
        needed = _samples_needed(kind, before, after, drop, high, max_drop, confidence)
    return Comparison(
        baseline.value,
        engine.value,
        drop,
        high if math.isfinite(high) else None,
        samples,
        verdict,
        needed,
        "proved" if kind.is_counting else "measured",
    )


def _drop_high(
    kind: Metric, before: Array, after: Array, drop: float, confidence: float, seed: int
) -> float:
    if kind.is_counting:
        lost, won = _flips(before, after)
        return flip_bound(lost, won, len(before), confidence)
    if len(before) < _FEWEST:
        return math.inf
    high = max(drop, _bootstrap_high(kind, before, after, confidence, seed))
    if before.dtype.kind in "iu":
        high += _unseen_flips(kind, after, confidence)
    return high


def _flips(before: Array, after: Array) -> tuple[int, int]:
    return int(np.sum((before > 0.5) & (after < 0.5))), int(np.sum((before < 0.5) & (after > 0.5)))


def flip_bound(lost: int, won: int, samples: int, confidence: float) -> float:
    """Upper bound of the drop, a share of samples, from `lost` and `won` flips."""
    if samples == 0:
        return 1.0
    from scipy.special import betaincinv, ndtri  # a third of a second, for plans with a metric

    net = max(lost - won, 0)
    exact = 1.0 if net >= samples else float(betaincinv(net + 1, samples - net, confidence))
    return max(exact, _tango_bound(lost, won, samples, float(ndtri(confidence))))


def _tango_bound(lost: int, won: int, samples: int, z: float) -> float:
    measured = (lost - won) / samples

    def excess(delta: float) -> float:
        rate = _constrained_rate(lost, won, samples, delta)
        variance = samples * (2 * rate + delta * (1 - delta))
        distance = lost - won - samples * delta
        return distance + z * math.sqrt(max(variance, 0.0))

    low, high = measured, 1.0
    if excess(high - 1e-12) > 0:
        return 1.0
    from scipy.optimize import brentq  # half a second to import: every sandboxed call would pay it

    return float(brentq(excess, low, high - 1e-12, xtol=1e-12)) if excess(low) > 0 else measured


def _constrained_rate(lost: int, won: int, samples: int, delta: float) -> float:
    """Maximum-likelihood rate of `won` given that rate(lost) - rate(won) = delta: the root of
    2n·q² + B·q + C = 0 with B = -lost - won + (2n - lost + won)·δ, C = -won·δ·(1 - δ)."""
    quadratic = 2.0 * samples
    linear = -lost - won + (2 * samples - lost + won) * delta
    constant = -won * delta * (1 - delta)
    root = math.sqrt(max(linear * linear - 4 * quadratic * constant, 0.0))
    return max((root - linear) / (2 * quadratic), 0.0)


def _bootstrap_high(
    kind: Metric, before: Array, after: Array, confidence: float, seed: int
) -> float:
    generator = np.random.default_rng(seed)
    sign = 1.0 if kind.higher_is_better else -1.0
    drops = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        chosen = generator.integers(0, len(before), len(before))
        drops[i] = sign * (kind.value(before[chosen]) - kind.value(after[chosen]))
    return float(np.quantile(drops, confidence, method="higher"))


def _unseen_flips(kind: Metric, rows: Array, confidence: float) -> float:
    """Largest loss by one more wrong answer, times the exact bound on flips never seen in n."""
    value = kind.value(rows)
    worst = 0.0
    for label in np.unique(rows[:, 1]):
        right = np.flatnonzero((rows[:, 1] == label) & (rows[:, 0] == label))
        if not right.size:
            continue
        changed = rows.copy()
        changed[right[0], 0] = label + 1 if label == 0 else 0
        worst = max(worst, value - kind.value(changed))
    return worst * len(rows) * flip_bound(0, 0, len(rows), confidence)


def _samples_needed(
    kind: Metric,
    before: Array,
    after: Array,
    drop: float,
    high: float,
    max_drop: float,
    confidence: float,
) -> int | None:
    """Samples at which the bound would hold if the rates stay; None where the drop itself is at the
    limit."""
    samples = len(before)
    if drop >= max_drop:
        return None
    if kind.is_counting:
        lost, won = (count / samples for count in _flips(before, after))
        return _smallest(
            lambda n: flip_bound(round(lost * n), round(won * n), n, confidence) <= max_drop,
            samples,
        )
    if not math.isfinite(high):
        return _FEWEST
    # The half-width of a bootstrap interval shrinks with the root of the samples.
    return math.ceil(samples * ((high - drop) / (max_drop - drop)) ** 2)


def _smallest(holds: Callable[[int], bool], start: int) -> int | None:
    """Smallest n >= start for which `holds(n)`, by doubling and bisection."""
    high = max(start, 1)
    while not holds(high):
        high *= 2
        if high > _SEARCH_LIMIT:
            return None
    low = max(high // 2, start)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
