"""Metrics, the paired verdict, and the correction of additive predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planner.compress.accuracy import compare, flip_bound
from planner.compress.base import Array
from planner.compress.error_model import ErrorModel, fit
from planner.compress.metrics import METRICS, MetricResult, evaluate, f1_of, metric_named
from planner.compress.samples import Evaluation, Samples
from planner.compress.user_function import function_digest
from planner.errors import DataError, UsageError
from tests.compress.build import random


def _top1(right: Array) -> MetricResult:
    return MetricResult(float(right.mean()), right.astype(float))


def _evaluation(values: Array, labels: Array) -> Evaluation:
    return Evaluation(Samples({"x": values[:, None]}, len(values), len(values), 1), labels)


def _identity(feeds: dict[str, Array]) -> dict[str, Array]:
    return {"y": feeds["x"]}


def test_top1_counts_samples_and_ignores_padding() -> None:
    values = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]].reshape(2, 2, 3)
    padded = Evaluation(Samples({"x": values}, 2, 3, 2), np.array([0, 1, 1]))
    result = evaluate(_identity, padded, "top1")
    assert result.value == pytest.approx(2 / 3)
    assert result.per_sample is not None
    assert result.per_sample.tolist() == [1.0, 1.0, 0.0]


def test_values_against_scikit_learn() -> None:
    from sklearn.metrics import f1_score, mean_squared_error

    scores, labels = random(200, 4, seed=1), np.random.default_rng(2).integers(0, 4, 200)
    found = evaluate(_identity, _evaluation(scores, labels), "f1").value
    assert found == pytest.approx(f1_score(labels, scores.argmax(1), average="macro"))
    binary = (random(200, 1, seed=3) > 0).astype(np.float32)
    found = evaluate(_identity, _evaluation(binary, labels > 1), "f1").value
    assert found == pytest.approx(f1_score(labels > 1, binary[:, 0] > 0.5))
    targets = random(200, 4, seed=4)
    found = evaluate(_identity, _evaluation(scores, targets), "mse").value
    assert found == pytest.approx(mean_squared_error(targets, scores))


def test_cosine_and_spearman() -> None:
    scores = random(50, 3)
    assert evaluate(_identity, _evaluation(scores, scores * 2), "cosine").value == pytest.approx(1)
    single = random(50, 1)
    assert evaluate(_identity, _evaluation(single, single**3), "spearman").value == (
        pytest.approx(1)
    )
    with pytest.raises(DataError, match="one number per sample"):
        evaluate(_identity, _evaluation(scores, single), "spearman")


def test_a_function_of_the_users_is_called_with_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_metric.py").write_text(
        "import numpy as np\n"
        "def score(run):\n    return float(run({'x': np.ones(2)})['y'].sum())\n"
        "def broken(run):\n    return 1 / 0\n"
    )
    monkeypatch.chdir(tmp_path)
    assert evaluate(_identity, None, "own_metric:score") == MetricResult(2.0, None)
    assert evaluate(_identity, None, f"{tmp_path}/own_metric.py:score").value == 2.0
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        evaluate(_identity, None, "own_metric:broken")
    with pytest.raises(UsageError, match="no function 'other'"):
        evaluate(_identity, None, "own_metric:other")
    with pytest.raises(UsageError, match="cannot import the metric's module 'absent_module'"):
        evaluate(_identity, None, "absent_module:score")


@pytest.mark.parametrize("labels", [[0.5, 1.0], [float("nan"), 1.0], ["cat", "dog"]])
def test_labels_that_are_no_classes_are_refused(labels: list[object]) -> None:
    samples = _evaluation(np.eye(2, dtype=np.float32), np.array(labels))
    with pytest.raises(DataError, match="not classes"):
        evaluate(_identity, samples, "top1")


@pytest.mark.parametrize("labels", [[1, 2, 3], [-1, 0, 1]])
@pytest.mark.parametrize("metric", ["top1", "f1"])
def test_labels_that_no_output_stands_for_are_refused(labels: list[int], metric: str) -> None:
    samples = _evaluation(np.eye(3, dtype=np.float32), np.array(labels))
    with pytest.raises(DataError, match=r"1 of 3 labels are none of the model's 3 classes"):
        evaluate(_identity, samples, metric)


def test_one_probability_has_two_classes() -> None:
    scores = np.array([[0.9], [0.2]], np.float32)
    assert evaluate(_identity, _evaluation(scores, np.array([1, 0])), "top1").value == 1.0
    with pytest.raises(DataError, match="model's 2 classes"):
        evaluate(_identity, _evaluation(scores, np.array([1, 2])), "top1")


def test_a_compiled_function_has_a_digest_too() -> None:
    assert len(function_digest("os:getcwd")) == 64


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(UsageError, match="is no metric"):
        metric_named("bleu")


def test_zero_flips_need_598_samples_for_half_a_point() -> None:
    assert flip_bound(0, 0, 598, 0.95) <= 0.005 < flip_bound(0, 0, 597, 0.95)
    right = np.ones(300)
    answer = compare(_top1(right), _top1(right), "top1", 0.005)
    assert (answer.verdict, answer.samples_needed, answer.drop) == ("unprovable", 598, 0.0)
    right = np.ones(600)
    assert compare(_top1(right), _top1(right), "top1", 0.005).verdict == "kept"


def test_a_measured_loss_breaks_the_promise() -> None:
    after = np.ones(1000)
    after[:20] = 0
    answer = compare(_top1(np.ones(1000)), _top1(after), "top1", 0.01)
    assert answer.verdict == "broken"
    assert answer.drop == pytest.approx(0.02)
    assert answer.drop_high is not None
    assert answer.drop_high > 0.02


@pytest.mark.parametrize(
    ("lost", "won", "samples"), [(0.01, 0.002, 1000), (0.003, 0.0, 1000), (0.05, 0.02, 200)]
)
def test_the_flip_bound_covers(lost: float, won: float, samples: int) -> None:
    """Against the true drop, over simulated data sets: at least as often as promised (3 sigma)."""
    draws = np.random.default_rng(0).multinomial(samples, [lost, won, 1 - lost - won], 1000)
    bounds = {tuple(d): flip_bound(int(d[0]), int(d[1]), samples, 0.95) for d in draws}
    covered = np.mean([bounds[tuple(d)] >= lost - won for d in draws])
    assert covered >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize("metric", [m.name for m in METRICS])
def test_an_equal_engine_never_breaks_anything(metric: str) -> None:
    kind = metric_named(metric)
    pairs = np.stack([np.arange(400) % 2, np.arange(400) % 2], axis=1)
    rows = pairs.astype(float) if metric == "spearman" else pairs
    rows = rows if metric in ("f1", "spearman") else np.ones(400)
    result = MetricResult(kind.value(rows), rows)
    answer = compare(result, result, metric, 0.05)
    assert answer.drop == 0.0
    assert answer.verdict == "kept"
    assert compare(result, result, metric, 0.05) == answer


def test_lower_is_better_for_errors() -> None:
    noise = np.abs(random(200))
    before, after = (
        MetricResult(float(noise.mean()), noise),
        MetricResult(float(noise.mean() + 0.1), noise + 0.1),
    )
    answer = compare(before, after, "mse", 0.05)
    assert answer.verdict == "broken"
    assert answer.drop == pytest.approx(0.1)


def test_few_samples_prove_nothing() -> None:
    rows = np.ones(5)
    answer = compare(MetricResult(1.0, rows), MetricResult(1.0, rows), "cosine", 0.01)
    assert (answer.verdict, answer.drop_high, answer.samples_needed) == ("unprovable", None, 30)


def test_an_opaque_metric_is_measured_only() -> None:
    answer = compare(MetricResult(0.9, None), MetricResult(0.89, None), "own:score", 0.02)
    assert (answer.verdict, answer.basis, answer.drop_high) == ("kept", "measured", None)


def test_f1_of_one_class_and_of_many() -> None:
    assert f1_of(np.array([[1, 1], [0, 1], [1, 0], [0, 0]])) == 0.5
    assert f1_of(np.array([[2, 2], [1, 1], [0, 1]])) == pytest.approx((1 + 2 / 3) / 2)


def test_probes_scale_and_bound() -> None:
    generator = np.random.default_rng(0)
    ratios = generator.uniform(0.4, 0.8, 40)
    model = fit([(1.0, float(ratio)) for ratio in ratios])
    expected, high = model.predict(2.0)
    assert expected == pytest.approx(2 * float(np.median(ratios)))
    fresh = generator.uniform(0.4, 0.8, 1000)
    assert np.mean(2 * fresh <= high) > 0.9
    assert model.basis == "calibrated"


def test_without_probes_the_sum_stands() -> None:
    assert fit([]) == ErrorModel()
    assert fit([(0.0, 1.0), (1.0, float("inf"))]) == ErrorModel()
    few = fit([(1.0, 0.5), (1.0, 1.0)])
    assert few.predict(1.0)[1] > 1.0
