"""Data files for several sets of input shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planner.compress.base import Array
from planner.compress.metrics import MetricResult, pooled
from planner.compress.workload import calibrations, evaluations
from planner.errors import DataError
from planner.runtime.tensors import write_tensors
from planner.spec.manifest import TensorSpec
from tests.compress.build import random

SPECS = {
    "short": [TensorSpec(name="x", dtype="float32", shape=(1, 4, 2))],
    "long": [TensorSpec(name="x", dtype="float32", shape=(1, 9, 2))],
}
BATCHES = {
    "one": [TensorSpec(name="x", dtype="float32", shape=(1, 2))],
    "four": [TensorSpec(name="x", dtype="float32", shape=(4, 2))],
}


def _file(folder: Path, **arrays: Array) -> Path:
    path = folder / "data.npz"
    write_tensors(path, arrays)
    return path


def test_samples_of_one_length_are_for_the_shape_that_they_fit(tmp_path: Path) -> None:
    found = calibrations(_file(tmp_path, x=random(6, 9, 2)), SPECS)
    assert list(found) == ["long"]
    assert found["long"].runs == 6


def test_samples_of_each_length_go_by_the_name_of_the_shape(tmp_path: Path) -> None:
    data = {"short/x": random(3, 4, 2), "long/calib_x": random(5, 9, 2), "long/x": random(2, 9, 2)}
    found = calibrations(_file(tmp_path, **data), SPECS)
    assert {name: samples.valid for name, samples in found.items()} == {"short": 3, "long": 5}


def test_shapes_that_differ_in_the_batch_share_their_samples(tmp_path: Path) -> None:
    found = calibrations(_file(tmp_path, x=random(8, 2)), BATCHES)
    assert {name: samples.runs for name, samples in found.items()} == {"one": 8, "four": 2}


def test_data_that_fits_no_shape_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, x=random(6, 5, 2))
    with pytest.raises(DataError, match=r"'x' has shape \[6, 5, 2\]"):
        calibrations(path, SPECS)
    with pytest.raises(DataError, match=r"'x' has shape \[6, 5, 2\]"):
        evaluations(path, SPECS)


def test_labelled_samples_count_once(tmp_path: Path) -> None:
    labels = np.arange(8)
    shared = evaluations(_file(tmp_path, x=random(8, 2), labels=labels), BATCHES)
    assert [each.samples.per_run for each in shared] == [1]
    own = {"short/x": random(3, 4, 2), "short/labels": labels[:3]}
    own |= {"long/x": random(2, 9, 2), "long/labels": labels[:2]}
    found = evaluations(_file(tmp_path, **own), SPECS)
    assert [each.samples.valid for each in found] == [3, 2]


def test_an_input_may_be_called_like_data_of_a_shape(tmp_path: Path) -> None:
    specs = {"a": [TensorSpec(name="a/x", dtype="float32", shape=(1, 2))]}
    assert calibrations(_file(tmp_path, **{"a/x": random(3, 2)}), specs)["a"].runs == 3


def test_a_metric_over_several_sets_is_that_of_all_samples() -> None:
    parts = [
        MetricResult(1.0, np.array([1.0, 1.0, 1.0])),
        MetricResult(0.0, np.array([0.0])),
    ]
    found = pooled(parts, "top1")
    assert found.value == 0.75
    assert found.per_sample is not None
    assert found.per_sample.tolist() == [1, 1, 1, 0]
    own = MetricResult(0.3, None)
    assert pooled([own], "module:function") is own
