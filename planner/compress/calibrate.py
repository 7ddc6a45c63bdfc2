"""Ranges of activations for int8_static, from samples.

Two passes over the samples: extremes first, then a histogram between them. The range kept is the
one with the least mean squared rounding error over the histogram: clipping a few outliers buys a
finer step for the rest. Why not ONNX Runtime's calibrators: they hold every tensor of every sample
in memory at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from planner.compress.base import Array, Range
from planner.compress.groups import groups_within
from planner.compress.probe import (
    Probe,
    quiet_settings,
    run_session,
    session_of,
    size_of,
    with_outputs,
)
from planner.compress.samples import Samples
from planner.ir.graph import Graph
from planner.spec.session import SessionSettings

BINS = 2048
"""Histogram bins between a tensor's extremes."""
_LEAST_SPAN, _LARGEST_SPAN = 1e-30, 1e38
"""Between these float32 holds both what a value is above the least and the bins per unit."""
_STEPS = 64
"""Candidate ranges per tensor: the extremes shrunk to k/64 of their size."""


class RangeRule(StrEnum):
    """How a range is chosen."""

    MINMAX = "minmax"
    """Everything seen."""
    PERCENTILE = "percentile"
    """Without the outermost share at either end."""
    MSE = "mse"
    """Least mean squared rounding error."""


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """What calibrated ranges depend on besides model and samples."""

    rule: RangeRule = RangeRule.MSE
    percentile: float = 99.99
    """Kept share for `percentile`, in percent."""
    memory_size_bytes: int = 256 << 20
    """Activations held at once."""


def calibrate(
    model_path: Path,
    graph: Graph,
    tensors: Collection[str],
    samples: Samples,
    session: SessionSettings,
    settings: CalibrationSettings = CalibrationSettings(),
) -> dict[str, Range]:
    """Range of each tensor over the samples; tensors without elements get (0, 0).

    Tensors that are, or become, NaN or infinite have no range, and are absent.
    """
    inner = sorted(set(tensors) - set(graph.inputs))
    ranges = {name: _range_of_input(samples.arrays[name]) for name in set(tensors) - set(inner)}
    ranges = {name: ends for name, ends in ranges.items() if np.isfinite(ends[1] - ends[0])}
    if not inner:
        return ranges
    onnx_model = with_outputs(model_path, inner)
    sizes = size_of(graph.tensors)
    with session_of(onnx_model, quiet_settings(session), model_path.parent) as probe:
        for group in groups_within(inner, sizes, settings.memory_size_bytes):
            ranges.update(_ranges_of_group(probe, group, samples, settings))
    return {name: ranges[name] for name in sorted(ranges)}


def _range_of_input(value: Array) -> Range:
    return (float(value.min()), float(value.max())) if value.size else (0.0, 0.0)


def _ranges_of_group(
    probe: Probe, names: Sequence[str], samples: Samples, settings: CalibrationSettings
) -> dict[str, Range]:
    extremes: dict[str, Range] = {}
    for name, value in _values(probe, names, samples):
        low, high = extremes.get(name, (np.inf, -np.inf))
        # unlike min and max, these keep a NaN, whichever run it comes from
        extremes[name] = (
            float(np.minimum(low, value.min())),
            float(np.maximum(high, value.max())),
        )
    extremes = {name: extremes.get(name, (0.0, 0.0)) for name in names}
    extremes = {name: ends for name, ends in extremes.items() if np.isfinite(ends[1] - ends[0])}
    names = tuple(extremes)
    if not names or settings.rule == RangeRule.MINMAX:
        return extremes
    counts = {name: np.zeros(BINS, np.float64) for name in names}
    for name, value in _values(probe, names, samples):
        low, high = extremes[name]
        if high > low:
            counts[name] += _histogram(value, low, high)
    return {name: choose_range(counts[name], extremes[name], settings) for name in names}


def _histogram(value: Array, low: float, high: float) -> Array:
    """Counts per bin; a linear map and bincount, several times faster than np.histogram."""
    span = high - low
    if _LEAST_SPAN < span < _LARGEST_SPAN:
        index = (value.ravel() - np.float32(low)) * np.float32(BINS / span)
    else:
        index = (value.ravel().astype(np.float64) - low) / span * BINS
    return np.bincount(np.clip(index, 0, BINS - 1).astype(np.int32), minlength=BINS)


def _values(probe: Probe, names: Sequence[str], samples: Samples) -> Iterator[tuple[str, Array]]:
    """Non-empty values, run by run."""
    for feeds in samples:
        for name, value in run_session(probe, names, feeds).items():
            if value.size:
                yield name, value


def choose_range(counts: Array, extremes: Range, settings: CalibrationSettings) -> Range:
    """The range to quantise over, from a histogram between the extremes."""
    low, high = extremes
    if not high > low or settings.rule == RangeRule.MINMAX:
        return extremes
    edges = np.linspace(low, high, len(counts) + 1)
    if settings.rule == RangeRule.PERCENTILE:
        return _percentile_range(counts, edges, settings.percentile)
    return _least_error_range(counts, edges)


def _percentile_range(counts: Array, edges: Array, percentile: float) -> Range:
    share = np.cumsum(counts) / counts.sum()
    tail = (100 - percentile) / 200
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail, side="left"))
    return float(edges[first]), float(edges[min(last + 1, len(edges) - 1)])


def _least_error_range(counts: Array, edges: Array) -> Range:
    """argmin over (a, b) of  Σ p·clip error² + step²/12·P(inside);  zero always lies inside.

    Both ends shrink independently towards zero in 64 steps; sums over the histogram come from
    prefix sums of p, p·x and p·x², so that a candidate costs O(1).
    """
    centres = (edges[:-1] + edges[1:]) / 2
    weight = counts / counts.sum()
    moments = [np.concatenate([[0.0], np.cumsum(weight * centres**k)]) for k in range(3)]
    shrink = np.arange(_STEPS, 0, -1) / _STEPS
    lows = min(edges[0], 0.0) * (shrink if edges[0] < 0 else np.ones(1))
    highs = max(edges[-1], 0.0) * (shrink if edges[-1] > 0 else np.ones(1))
    below = _clip_error(moments, centres, lows, is_low=True)
    above = _clip_error(moments, centres, highs, is_low=False)
    step = (highs[None, :] - lows[:, None]) / 255
    error = below[:, None] + above[None, :] + step**2 / 12 * _rounded_share(weight, edges)
    i, j = np.unravel_index(int(np.argmin(error)), error.shape)
    return float(lows[i]), float(highs[j])


def _rounded_share(weight: Array, edges: Array) -> float:
    """Share of values that rounding moves: zeros (behind a Relu, half of all) are exact."""
    if not edges[0] <= 0 <= edges[-1]:
        return 1.0
    at_zero = min(int(np.searchsorted(edges, 0.0, side="right")) - 1, len(weight) - 1)
    return float(1.0 - weight[at_zero])


def _clip_error(moments: Sequence[Array], centres: Array, bounds: Array, is_low: bool) -> Array:
    """Σ p·(x − bound)² over the x beyond each bound."""
    cut = np.searchsorted(centres, bounds)
    p, px, pxx = ((moment[cut] if is_low else moment[-1] - moment[cut]) for moment in moments)
    result: Array = pxx - 2 * bounds * px + bounds**2 * p
    return np.maximum(result, 0.0)
