"""NMSE conventions, the ones everything else relies on."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from planner.runtime.compare import flatten, max_nmse, nmse, nmse_per_output

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("reference", "value", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.0], [3.0, 5.0], 1 / 25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1e-9], INF),
        ([1.0, NAN], [1.0, NAN], 0.0),
        ([1.0, NAN], [2.0, NAN], 1.0),
        ([1.0, NAN], [NAN, 1.0], INF),
        ([1.0, INF], [1.0, INF], 0.0),
        ([1.0, INF], [1.0, -INF], INF),
        ([1.0, 2.0], [1.0, NAN], INF),
        ([NAN], [NAN], 0.0),
        ([1e300, 1e300], [1e300, 0.0], 0.5),
        ([1e-300, 1e-300], [1e-300, 0.0], 0.5),
        ([1, 2, 3, 4], [1, 2, 3, 5], 0.25),
        ([True, False], [True, True], 0.5),
        (["a", "b"], ["a", "b"], 0.0),
        (["a", "b"], ["a", "c"], 0.5),
        ([1 + 1j], [1 + 2j], 0.5),
        ([1.0, 2.0], [1.0], INF),
        ([[1.0, 2.0]], [1.0, 2.0], INF),
    ],
)
def test_conventions(reference: Any, value: Any, expected: float) -> None:
    assert nmse(np.array(reference), np.array(value)) == pytest.approx(expected, rel=1e-12)


def test_empty_and_extended_types() -> None:
    assert nmse(np.empty((0, 3)), np.empty((0, 3))) == 0.0
    halves = np.array([1, 2], ml_dtypes.bfloat16)
    assert nmse(halves, halves + np.array(1, ml_dtypes.bfloat16)) == pytest.approx(2 / 5)
    assert nmse(np.array([60000], np.float16), np.array([-60000], np.float16)) == pytest.approx(4)


@given(
    hnp.arrays(np.float64, (5,), elements=st.floats(-1e3, 1e3)),
    hnp.arrays(np.float64, (5,), elements=st.floats(-1e3, 1e3)),
)
def test_the_formula(reference: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> None:
    power = float(np.sum(reference**2))
    if power > 1e-200:
        expected = float(np.sum((value - reference) ** 2)) / power
        assert nmse(reference, value) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_per_output_and_the_worst() -> None:
    reference = {"a": np.array([1.0]), "b": np.array([2.0]), "c": np.array([1])}
    values = {"a": np.array([1.0]), "b": np.array([3.0])}
    assert nmse_per_output(reference, values) == {"a": 0.0, "b": 0.25, "c": INF}
    assert max_nmse(reference, {**values, "c": np.array([1])}) == 0.25
    assert max_nmse({}, {}) == 0.0


def test_sequences_and_maps_are_compared_by_their_parts() -> None:
    rows = [{0: 0.1, 1: 0.9}, {0: 0.3, 1: 0.7}]
    flat = flatten("p", rows)
    assert flat["p/keys"].tolist() == [0, 1]
    assert flat["p/values"].tolist() == [[0.1, 0.9], [0.3, 0.7]]
    assert nmse(rows, rows) == 0.0
    assert nmse(rows, [{0: 0.1, 2: 0.9}, {0: 0.3, 2: 0.7}]) == 0.5
    assert nmse([np.ones(2), np.ones(3)], [np.ones(2), np.zeros(3)]) == 1.0
    assert nmse([np.ones(2)], [np.ones(2), np.ones(2)]) == INF
    assert nmse({"a": 1.0}, {"a": 1.0}) == 0.0
