"""Ranges from samples."""

from __future__ import annotations

import numpy as np
import pytest

from planner.compress.base import Array, Range
from planner.compress.calibrate import (
    BINS,
    CalibrationSettings,
    RangeRule,
    _histogram,
    calibrate,
    choose_range,
)
from planner.compress.rounding import round_affine
from planner.compress.samples import Samples
from tests.compress.build import SESSION, random
from tests.compress.conftest import Case

MINMAX = CalibrationSettings(rule=RangeRule.MINMAX)


def test_minmax_is_what_was_seen(cnn_case: Case) -> None:
    found = calibrate(cnn_case.path, cnn_case.graph, ["x", "r1"], cnn_case.samples, SESSION, MINMAX)
    inputs = cnn_case.samples.arrays["x"]
    assert found["x"] == (float(inputs.min()), float(inputs.max()))
    assert found["r1"][0] == 0.0
    assert found["r1"][1] > 0.0


def test_memory_limit_changes_nothing(cnn_case: Case) -> None:
    tensors = ["c1", "r1", "a", "y"]
    small = CalibrationSettings(memory_size_bytes=1)
    first = calibrate(cnn_case.path, cnn_case.graph, tensors, cnn_case.samples, SESSION)
    second = calibrate(cnn_case.path, cnn_case.graph, tensors, cnn_case.samples, SESSION, small)
    assert first == second


def _error(values: Array, limits: Range) -> float:
    return float(np.mean((round_affine(values, limits) - values) ** 2))


@pytest.mark.parametrize("kind", ["normal", "outlier", "relu"])
def test_least_error_beats_the_extremes(kind: str) -> None:
    values = random(20000, seed=3)
    if kind == "outlier":
        values[0] = 80.0
    if kind == "relu":
        values = np.maximum(values, 0)
    extremes = (float(values.min()), float(values.max()))
    counts, _ = np.histogram(values, BINS, extremes)
    chosen = choose_range(counts.astype(float), extremes, CalibrationSettings())
    assert extremes[0] <= chosen[0] <= 0.0 < chosen[1] <= extremes[1]
    assert _error(values, chosen) <= _error(values, extremes) * 1.001


def test_percentile_cuts_the_tails() -> None:
    counts = np.ones(BINS)
    settings = CalibrationSettings(rule=RangeRule.PERCENTILE, percentile=90.0)
    low, high = choose_range(counts, (-1.0, 1.0), settings)
    assert low == pytest.approx(-0.9, abs=2 / BINS)
    assert high == pytest.approx(0.9, abs=2 / BINS)


def test_activations_that_overflow_have_no_range(cnn_case: Case) -> None:
    samples = Samples({"x": np.full((1, 1, 3, 8, 8), 3e38, np.float32)}, 1, 1, 1)
    assert calibrate(cnn_case.path, cnn_case.graph, ["a"], samples, SESSION) == {}


def test_activations_that_become_nan_in_a_later_run_have_no_range(cnn_case: Case) -> None:
    inputs = cnn_case.samples.arrays["x"][:2].copy()
    inputs[1] = np.nan
    samples = Samples({"x": inputs}, 2, 2 * cnn_case.samples.per_run, cnn_case.samples.per_run)
    for settings in (CalibrationSettings(), MINMAX):
        assert calibrate(cnn_case.path, cnn_case.graph, ["a"], samples, SESSION, settings) == {}


def test_an_input_that_holds_infinities_has_no_range(cnn_case: Case) -> None:
    """A mask, say: minus infinity is one of its two values."""
    inputs = cnn_case.samples.arrays["x"].copy()
    inputs[0, 0, 0, 0, 0] = -np.inf
    samples = Samples({"x": inputs}, cnn_case.samples.runs, cnn_case.samples.valid, 1)
    found = calibrate(cnn_case.path, cnn_case.graph, ["x", "y"], samples, SESSION, MINMAX)
    assert "x" not in found


@pytest.mark.parametrize("scale", [1e-43, 1e-36, 1.0, 1e30, 3e37])
def test_bins_count_everything_however_small_or_large_the_numbers(scale: float) -> None:
    value = (np.linspace(-2.0, 2.0, 4097) * scale).astype(np.float32)
    counts = _histogram(value, float(value.min()), float(value.max()))
    assert counts.sum() == value.size
    if scale > 1e-42:  # below, neighbours are the same number
        assert counts.max() <= 4
