"""Task metrics on labelled samples, as rows per sample, so that two engines compare in pairs.

top1       share of samples whose largest output is the label's          row: right (0 or 1)
f1         2·TP / (2·TP + FP + FN); of class 1, or the mean over classes  row: (predicted, label)
mse        mean squared error against the label                          row: squared error
cosine     mean cosine similarity with the label                         row: similarity
spearman   rank correlation of a scalar output with the label            row: (output, label)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.compress.base import Array
from planner.compress.samples import Evaluation
from planner.compress.user_function import Run, load_function
from planner.errors import DataError, UsageError


@dataclass(frozen=True, slots=True)
class Metric:
    """How rows are made and what they amount to."""

    name: str
    rows: Callable[[Array, Array], Array]
    """(outputs [n, ...], labels [n, ...]) -> rows [n] or [n, k]."""
    value: Callable[[Array], float]
    """Rows -> the metric."""
    higher_is_better: bool = True
    is_counting: bool = False
    """Whether a row is right or wrong, so that flips can be counted."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """A metric of one engine on one data set."""

    value: float
    per_sample: Array | None
    """Rows in sample order; None where a user's function gives the value only."""


def evaluate(
    run: Run, evaluation: Evaluation | None, metric: str, output: str | None = None
) -> MetricResult:
    """The metric over all valid samples; `output` names what it looks at (default: the first).

    `module:function` is called with `run` alone and returns the value.

    Raises:
        UsageError: unknown metric, a module that cannot be imported, a function that fails.
        DataError: labels that do not fit the outputs.
    """
    if ":" in metric:
        return MetricResult(_call(load_function(metric), metric, run), None)
    if evaluation is None:
        raise DataError(f"the metric {metric} needs labelled evaluation data")
    found = metric_named(metric)
    outputs = _outputs(run, evaluation, output)
    rows = found.rows(outputs, np.asarray(evaluation.labels))
    return MetricResult(found.value(rows), rows)


def pooled(results: Sequence[MetricResult], metric: str) -> MetricResult:
    """The metric over several data sets as if they were one; a user's own is measured once."""
    first, *others = results
    if first.per_sample is None or not others:
        return first
    rows = np.concatenate([np.asarray(result.per_sample) for result in results])
    return MetricResult(metric_named(metric).value(rows), rows)


def _outputs(run: Run, evaluation: Evaluation, output: str | None) -> Array:
    samples = evaluation.samples
    parts: list[Array] = []
    for feeds in samples:
        values = run(feeds)
        name = next(iter(values)) if output is None else output
        if name not in values:
            raise UsageError(f"the model has no output {name!r}", fix=f"one of {', '.join(values)}")
        value = np.asarray(values[name])
        whole = value.ndim and len(value) == samples.per_run
        parts.append(value if whole else value[None])
    stacked = np.concatenate(parts)
    if len(stacked) < samples.valid:
        raise DataError(
            f"{len(stacked)} outputs for {samples.valid} samples: the output's first axis does not "
            "count samples",
            fix="use a metric of your own: module:function",
        )
    return stacked[: samples.valid]


def metric_named(name: str) -> Metric:
    """A metric of this module.

    Raises:
        UsageError: no such metric.
    """
    for metric in METRICS:
        if metric.name == name:
            return metric
    known = ", ".join(metric.name for metric in METRICS)
    raise UsageError(f"{name!r} is no metric", fix=f"one of {known}, or module:function")


def _flat(outputs: Array) -> Array:
    return outputs.reshape(len(outputs), -1)


def _classes(outputs: Array, labels: Array) -> Array:
    """Predicted class per sample; one output is the probability (or, if an integer, the class)."""
    flat = _flat(outputs)
    if flat.shape[1] > 1:
        return np.asarray(flat.argmax(axis=1))
    single = flat[:, 0]
    return (single > 0.5).astype(int) if single.dtype.kind == "f" else single.astype(int)


def _labels(labels: Array, outputs: Array) -> Array:
    flat = labels.reshape(len(outputs), -1)
    if flat.shape[1] > 1:
        return np.asarray(flat.argmax(axis=1))
    single = flat[:, 0]
    if single.dtype.kind not in "biuf" or not np.array_equal(single, np.floor(single)):
        raise DataError(
            "the labels are not classes: top1 and f1 compare whole numbers",
            fix="give the class of each sample as an integer, or choose another metric",
        )
    classes = single.astype(int)
    _refuse_outside(classes, outputs)
    return classes


def _refuse_outside(labels: Array, outputs: Array) -> None:
    """A label that no output can stand for would count as wrong for every engine alike."""
    flat = _flat(outputs)
    if flat.shape[1] == 1 and flat.dtype.kind != "f":
        return  # the output is the class itself
    count = max(flat.shape[1], 2)
    outside = labels[(labels < 0) | (labels >= count)]
    if len(outside):
        raise DataError(
            f"{len(outside)} of {len(labels)} labels are none of the model's {count} classes "
            f"(0 to {count - 1}): {outside[0]}",
            fix="number the classes as the model's outputs stand",
        )


def _top1_rows(outputs: Array, labels: Array) -> Array:
    finite = np.isfinite(_flat(outputs).astype(np.float64)).all(axis=1)
    right = _classes(outputs, labels) == _labels(labels, outputs)
    return np.asarray(right & finite, np.float64)


def _f1_rows(outputs: Array, labels: Array) -> Array:
    pair = (_classes(outputs, labels), _labels(labels, outputs))
    return np.asarray(np.stack(pair, axis=1))


def f1_of(rows: Array) -> float:
    """F1 of class 1 where there are two classes, else the mean over the classes that occur."""
    predicted, label = rows[:, 0], rows[:, 1]
    classes = np.unique(label)
    chosen = np.array([1]) if set(classes) <= {0, 1} else classes
    hits = np.array([np.sum((predicted == c) & (label == c)) for c in chosen], np.float64)
    called = np.array([np.sum(predicted == c) + np.sum(label == c) for c in chosen], np.float64)
    return float(np.mean(np.divide(2 * hits, called, out=np.zeros_like(hits), where=called > 0)))


def _mse_rows(outputs: Array, labels: Array) -> Array:
    expected = _paired(outputs, labels)
    return np.asarray(np.mean((_flat(outputs).astype(np.float64) - expected) ** 2, axis=1))


def _cosine_rows(outputs: Array, labels: Array) -> Array:
    found, expected = _flat(outputs).astype(np.float64), _paired(outputs, labels)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    dots = np.sum(found * expected, axis=1)
    return np.asarray(np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0))


def _spearman_rows(outputs: Array, labels: Array) -> Array:
    flat = _flat(outputs)
    if flat.shape[1] != 1 or labels.size != len(flat):
        raise DataError(
            f"spearman compares one number per sample; the output has {flat.shape[1]}",
            fix="use a metric of your own: module:function",
        )
    pair = (flat[:, 0].astype(np.float64), labels.reshape(-1).astype(np.float64))
    return np.asarray(np.stack(pair, axis=1))


def spearman_of(rows: Array) -> float:
    """Rank correlation; 0 where either side is constant."""
    if np.ptp(rows[:, 0]) == 0 or np.ptp(rows[:, 1]) == 0:
        return 0.0
    from scipy.stats import rankdata  # a second to import: only for who asks for ranks

    # Not scipy's spearmanr: its p-value costs ten times as much, and a bootstrap calls this often.
    return float(np.corrcoef(rankdata(rows[:, 0]), rankdata(rows[:, 1]))[0, 1])


def _paired(outputs: Array, labels: Array) -> Array:
    expected = labels.reshape(len(labels), -1).astype(np.float64)
    if expected.shape != _flat(outputs).shape:
        raise DataError(
            f"labels of shape {list(labels.shape)} for outputs of shape {list(outputs.shape)}"
        )
    return expected


def _mean(rows: Array) -> float:
    return float(np.mean(rows))


METRICS = (
    Metric("top1", _top1_rows, _mean, is_counting=True),
    Metric("f1", _f1_rows, f1_of),
    Metric("mse", _mse_rows, _mean, higher_is_better=False),
    Metric("cosine", _cosine_rows, _mean),
    Metric("spearman", _spearman_rows, spearman_of),
)


def _call(function: Callable[[Run], float], reference: str, run: Run) -> float:
    try:
        value = float(function(run))
    except (Exception, SystemExit) as error:  # noqa: BLE001 a user's function may raise anything
        raise UsageError(
            f"the metric failed: {type(error).__name__}: {error}", where=reference
        ) from None
    if not np.isfinite(value):
        raise UsageError(f"the metric returned {value}", where=reference)
    return value
