"""Data files: names, shapes, types, batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planner.compress.base import Array
from planner.compress.cutting import samples_from
from planner.compress.sample_files import load_calibration, load_evaluation
from planner.compress.synthetic import synthetic_samples
from planner.errors import DataError
from planner.spec.manifest import TensorSpec
from tests.compress.build import random
from tests.compress.conftest import Case

IMAGE = TensorSpec(name="image", dtype="float32", shape=(1, 3, 4, 4))
BATCHED = TensorSpec(name="image", dtype="float32", shape=(4, 3, 4, 4))
IDS = TensorSpec(name="ids", dtype="int64", shape=(1, 5))
RATE = TensorSpec(name="rate", dtype="int64", shape=())


def test_samples_are_cut_along_the_batch_axis() -> None:
    data = random(10, 3, 4, 4)
    samples = samples_from({"image": data}, [IMAGE])
    assert (samples.runs, samples.valid, samples.per_run) == (10, 10, 1)
    assert np.array_equal(samples.feeds(7)["image"], data[7:8])


def test_a_ragged_tail_is_padded_and_can_be_dropped() -> None:
    data = random(10, 3, 4, 4)
    samples = samples_from({"image": data}, [BATCHED])
    assert (samples.runs, samples.valid, samples.per_run) == (3, 10, 4)
    assert np.array_equal(samples.feeds(2)["image"][:2], data[8:])
    whole = samples.whole_runs()
    assert (whole.runs, whole.valid) == (2, 8)
    assert samples.first(2).valid == 6


def test_stacked_runs_and_shared_values() -> None:
    data = {"image": random(6, 1, 3, 4, 4), "rate": np.array(16000)}
    samples = samples_from(data, [IMAGE, RATE])
    assert samples.runs == 6
    assert [feeds["rate"].item() for feeds in samples] == [16000] * 6
    assert samples.feeds(5)["image"].shape == (1, 3, 4, 4)


def test_two_inputs_in_step() -> None:
    data = {"image": random(4, 3, 4, 4), "ids": np.arange(20).reshape(4, 5)}
    samples = samples_from(data, [IMAGE, IDS])
    assert samples.feeds(3)["ids"].tolist() == [[15, 16, 17, 18, 19]]


def test_types_are_widened_but_never_changed_in_value() -> None:
    small = samples_from({"ids": np.ones((2, 5), np.uint8)}, [IDS])
    assert small.feeds(0)["ids"].dtype == np.int64
    narrow = TensorSpec(name="ids", dtype="int8", shape=(1, 5))
    with pytest.raises(DataError, match="values that int8 cannot hold"):
        samples_from({"ids": np.full((2, 5), 300)}, [narrow])
    with pytest.raises(DataError, match="'ids' is float64; the model's input is int64"):
        samples_from({"ids": np.ones((2, 5))}, [IDS])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (random(4, 3, 5, 5), r"shape \[4, 3, 5, 5\]; the model's input is \[1, 3, 4, 4\]"),
        (random(0, 3, 4, 4), "has no samples"),
        (np.full((2, 3, 4, 4), np.nan, np.float32), "NaN values"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(array: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        samples_from({"image": array}, [IMAGE])


def test_inputs_that_disagree_are_refused() -> None:
    data = {"image": random(4, 3, 4, 4), "ids": np.ones((3, 5), np.int64)}
    with pytest.raises(DataError, match="disagree on the number of samples: 'image' 4, 'ids' 3"):
        samples_from(data, [IMAGE, IDS])


def test_one_file_holds_both_parts(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(
        path,
        image=random(6, 3, 4, 4),
        calib_image=random(2, 3, 4, 4, seed=1),
        labels=np.arange(6),
    )
    assert load_calibration(path, [IMAGE]).runs == 2
    evaluation = load_evaluation(path, [IMAGE])
    assert (evaluation.samples.runs, evaluation.labels.tolist()) == (6, list(range(6)))


def test_a_missing_input_names_the_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, images=random(6, 3, 4, 4))
    with pytest.raises(DataError, match="rename 'images' to 'image'"):
        load_calibration(path, [IMAGE])


def test_labels_must_count_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, image=random(6, 3, 4, 4))
    with pytest.raises(DataError, match="no labels"):
        load_evaluation(path, [IMAGE])
    np.savez(path, image=random(6, 3, 4, 4), labels=np.arange(5))
    with pytest.raises(DataError, match="'labels' has 5 entries for 6 samples"):
        load_evaluation(path, [IMAGE])


def test_synthetic_ids_stay_inside_their_table(mixer_case: Case) -> None:
    ids = TensorSpec(name="ids", dtype="int64", shape=(1, 8))
    first = synthetic_samples([ids], 40, 3, mixer_case.graph)
    values = first.arrays["ids"]
    assert first.is_synthetic
    assert values.min() >= 0
    assert 30 < values.max() < 50
    assert first.digest == synthetic_samples([ids], 40, 3, mixer_case.graph).digest
    assert first.digest != synthetic_samples([ids], 40, 4, mixer_case.graph).digest


def test_synthetic_masks_let_everything_through() -> None:
    mask = TensorSpec(name="mask", dtype="int64", shape=(2, 3))
    assert synthetic_samples([mask], 2).arrays["mask"].tolist() == [[[1] * 3] * 2] * 2


def test_bfloat16_samples_have_a_digest_of_their_values() -> None:
    specs = [TensorSpec(name="x", dtype="bfloat16", shape=(1, 4))]
    one, again, other = (synthetic_samples(specs, 2, seed) for seed in (0, 0, 1))
    assert one.digest == again.digest != other.digest
