"""Learns the parameters of a kernel model, and what it leaves over, from measured latencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.cost.lattice import Lattice, fit_lattice

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Model = Callable[[Mapping[str, float], Indices], Array]
"""(parameters, which points) -> microseconds."""
Knots = tuple[tuple[float, ...], ...]
Prior = Mapping[str, tuple[float, float]]

_SAMPLE = 900
"""Points that parameters are learnt from: ten parameters need no more."""
_STEPS = 25
"""Evaluations of the Jacobian at most."""
_PRIOR_WEIGHT = 0.5
"""Of a prior against one point with an error of `_SCALE`."""
_SCALE = 0.1
"""Relative error beyond which a point counts less than quadratically."""
_FOLDS = 5
_QUANTILES = (0.025, 0.975)
_SCARCITY = 6.0
"""Points whose worth of width is added to intervals: quantiles of few points are too narrow."""
_BANDS_US = (8.0, 40.0, 400.0, float("inf"))
"""Intervals are learnt apart for latencies up to each of these: short kernels scatter more."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """A fitted model and how well it predicts what it has not seen."""

    parameters: dict[str, float]
    lattice: Lattice | None
    errors: Array
    """log(predicted / measured) of every point, by a fit that did not see its group."""
    predicted_us: Array
    """The same predictions."""
    bare_errors: Array
    """The same errors without the lattice: those of the physical model alone."""


def learn(
    model: Model,
    prior: Prior,
    coordinates: Array,
    measured_us: Array,
    groups: Array,
    knots: Knots | None,
    *,
    rough: tuple[int, ...] = (),
    prior_weight: float = _PRIOR_WEIGHT,
    seed: int = 0,
) -> Learnt:
    """Fits a model to everything, and again without each fifth of the groups.

    Args:
        coordinates: [points, coordinates] of the lattice, log2.
        groups: points of one group are left out together, so that no neighbour tells on another.
        knots: of the lattice; None for the physical model alone.
        rough: coordinates of the lattice along which nothing is smooth.
        prior_weight: of the prior, as of `fit_parameters`.
    """
    everything = np.arange(len(measured_us))
    weight = prior_weight
    whole = fit_parameters(model, prior, measured_us, everything, prior_weight=weight, seed=seed)
    lattice = _lattice(model, whole, coordinates, measured_us, everything, knots, rough)
    predicted, bare = np.empty(len(measured_us)), np.empty(len(measured_us))
    folds = _folds(groups, seed)
    for fold in np.unique(folds):
        seen, unseen = everything[folds != fold], everything[folds == fold]
        used = seen if len(seen) else unseen
        part = fit_parameters(
            model, prior, measured_us, used, start=whole, prior_weight=weight, seed=seed
        )
        rest = _lattice(model, part, coordinates, measured_us, used, knots, rough)
        bare[unseen] = model(part, unseen)
        lift = 0.0 if rest is None else rest.at(coordinates[unseen])
        predicted[unseen] = bare[unseen] * np.exp(lift)
    errors, bare_errors = np.log(predicted / measured_us), np.log(bare / measured_us)
    return Learnt(whole, lattice, errors, predicted, bare_errors)


def _folds(groups: Array, seed: int) -> Indices:
    """Which fifth of the groups each point belongs to."""
    labels, which = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    folds: Indices = (order % _FOLDS)[which]
    return folds


def bands(errors: Array, predicted_us: Array, *, at_least: float = 0.02) -> list[list[float]]:
    """[up to microseconds, low, high] multiples of a prediction that hold 95 % of measurements."""
    found, below = [], 0.0
    for limit in _BANDS_US:
        inside = errors[(predicted_us >= below) & (predicted_us < limit)]
        used = inside if len(inside) >= 40 else errors
        low, high = np.quantile(-used, _QUANTILES) * (1 + _SCARCITY / len(used))
        found.append(
            [limit, float(np.exp(min(low, -at_least))), float(np.exp(max(high, at_least)))]
        )
        below = limit
    return found


def fit_parameters(
    model: Model,
    prior: Prior,
    measured_us: Array,
    seen: Indices,
    *,
    start: Mapping[str, float] | None = None,
    also: Sequence[Mapping[str, float]] = (),
    prior_weight: float = _PRIOR_WEIGHT,
    seed: int = 0,
) -> dict[str, float]:
    """Parameters with the least robust error of logarithms, held by their priors.

    Args:
        start: parameters to begin from, already good.
        also: others to begin from, where bounds hide what they would be if others held.
        prior_weight: of the prior against one point with a relative error of a tenth.
    """
    from scipy.optimize import least_squares

    rng = np.random.default_rng(seed)
    sample = seen if len(seen) <= _SAMPLE else np.sort(rng.choice(seen, _SAMPLE, replace=False))
    names = list(prior)
    centre = np.log([prior[name][0] for name in names])
    width = np.array([prior[name][1] for name in names])
    first = centre if start is None else np.log([start[name] for name in names])

    def residuals(theta: Array) -> Array:
        values = dict(zip(names, np.exp(theta), strict=True))
        data = np.log(model(values, sample) / measured_us[sample])
        return np.concatenate([data, prior_weight * _SCALE * (theta - centre) / width])

    steps = _STEPS if start is None else _STEPS // 4
    begins = [first, *(np.log([one[name] for name in names]) for one in also)]
    tried = [
        least_squares(residuals, begin, loss="soft_l1", f_scale=_SCALE, max_nfev=steps)
        for begin in begins
    ]
    best = min(tried, key=lambda found: found.cost)
    return dict(zip(names, np.exp(best.x).tolist(), strict=True))


def _lattice(
    model: Model,
    parameters: Mapping[str, float],
    coordinates: Array,
    measured_us: Array,
    seen: Indices,
    knots: Knots | None,
    rough: tuple[int, ...],
) -> Lattice | None:
    if knots is None:
        return None
    remainder = np.log(measured_us[seen] / model(parameters, seen))
    return fit_lattice(knots, coordinates[seen], remainder, rough)
