"""What compression does to the answers: errors per operator, of whole plans, and the metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.compress.accuracy import Comparison, compare
from planner.compress.base import NATIVE, Format
from planner.compress.error_model import ErrorModel, fit
from planner.compress.measure import joint_error
from planner.compress.metrics import MetricResult
from planner.compress.samples import Samples
from planner.spec.constraints import Constraints
from planner.spec.plan import AccuracyReport
from planner.spec.session import SessionSettings
from planner.steps.choices import Choices, smoothing_of
from planner.steps.metrics import Metrics, measuring, metric_of
from planner.steps.prepare import Prepared
from planner.steps.sensitivity import measured_sensitivities
from planner.steps.variants import Variant
from planner.steps.workspace import Workspace, digest

_JOINT_RUNS = 32
_HOPELESS = 1e6
"""NMSE that stands for answers that are not even numbers: no budget allows it."""
_SESSION = SessionSettings()


@dataclass(frozen=True, slots=True)
class Measured:
    """Accuracy of one built model."""

    error: float
    """Joint NMSE (the worst output's)."""
    comparison: Comparison | None
    """Against the unchanged model on the evaluation data; None where no metric was asked for."""
    is_native: bool = False
    """Every operator in its own format: no answer changes, whatever was measured."""


class Accuracy:
    """Measures accuracy of built models, each only once."""

    def __init__(self, constraints: Constraints, prepared: Prepared, work: Workspace) -> None:
        self.budget = constraints.accuracy
        self.prepared = prepared
        self.work = work
        self.metric = metric_of(constraints)
        self.seed = constraints.solver.seed
        self._metrics = Metrics(self.metric, self.budget.evaluation, prepared, work)

    def sensitivities(self, choices: Choices) -> dict[tuple[str, Format], float]:
        """Output NMSE of each operator alone in each format it may take; the worst shape's."""
        found = [self._sensitivities_on(samples, choices) for samples in self.prepared.samples]
        return {choice: max(each[choice] for each in found) for choice in found[0]}

    def _sensitivities_on(
        self, samples: Samples, choices: Choices
    ) -> dict[tuple[str, Format], float]:
        wanted = [(offer.op, offer.format) for offer in choices.offers if offer.format != NATIVE]
        base = digest(
            "sensitivity", self.prepared.sha256, samples.digest, sorted(choices.ranges.items())
        )
        found: dict[str, float] = self.work.store.get(base) or {}
        names = {choice: _name(choice, choices.smoothing) for choice in wanted}
        known = {name: found[name] for name in names.values() if name in found}
        missing = [choice for choice in wanted if names[choice] not in known]
        if missing:
            self.work.reporter.stage("sensitivity")
            fresh = measured_sensitivities(
                self.prepared, samples, missing, choices.calibration, measuring(self.prepared)
            )
            known.update({names[choice]: _finite(value) for choice, value in fresh.items()})
            self.work.store.put("sensitivity", {base: {**found, **known}})
        return {choice: known[name] for choice, name in names.items()}

    def measure(self, variant: Variant) -> Measured:
        """Joint error, and the metric where a limit on its drop was given."""
        return self._measure(variant, needs_metric=self.budget.max_drop is not None)

    def measure_fully(self, variant: Variant) -> Measured:
        """Joint error, and the metric where one was named, limit or not: for what ships."""
        return self._measure(variant, needs_metric=self.metric is not None)

    def _measure(self, variant: Variant, *, needs_metric: bool) -> Measured:
        error = self.error(variant) if variant.realised else 0.0
        if not needs_metric:
            return Measured(error, None, not variant.realised)
        if not variant.realised:
            return Measured(error, self._unchanged(), is_native=True)
        return Measured(error, self._comparison(variant))

    def error(self, variant: Variant) -> float:
        """Joint NMSE of the built model against the unchanged one; the worst shape's."""
        return max(self._error_on(samples, variant) for samples in self.prepared.samples)

    def _error_on(self, given: Samples, variant: Variant) -> float:
        samples = given.first(_JOINT_RUNS)
        key = digest("joint", self.prepared.sha256, variant.executable.key, samples.digest)

        def compute() -> float:
            built = variant.executable.build()
            found = measuring(self.prepared).call(
                joint_error, self.prepared.bound_path, built, samples, _SESSION
            )
            return _over(found.per_output, self.prepared.random_outputs)

        return float(self.work.once("joint", key, compute))

    def baseline(self) -> MetricResult | None:
        """The unchanged model's metric, where one was named.

        Raises:
            DataError: evaluation data or labels that do not fit the model.
            UsageError: a function that is not there or fails.
        """
        if self.metric is None:
            return None
        return self._metrics.of(self.prepared.sha256, self.prepared.bound_path)

    def _unchanged(self) -> Comparison | None:
        """The model against itself: identical answers, so the drop is zero, proved."""
        baseline = self.baseline()
        if baseline is None:
            return None
        value = baseline.value
        return Comparison(value, value, 0.0, 0.0, 0, "kept", None, "proved")

    def _comparison(self, variant: Variant) -> Comparison:
        baseline = self.baseline()
        assert self.metric is not None
        assert baseline is not None
        name = digest(self.prepared.sha256, variant.executable.key)
        found = self._metrics.of(name, variant.executable.build())
        limit = self._largest_drop(baseline.value)
        return compare(baseline, found, self.metric, limit, self.budget.confidence, self.seed)

    def _largest_drop(self, baseline: float) -> float:
        """In the metric's own unit; no limit at all where none was asked for."""
        drop = self.budget.max_drop
        if drop is None:
            return math.inf
        return drop.amount * (abs(baseline) if drop.is_relative(self.metric) else 1.0)

    def keeps(self, measured: Measured) -> bool:
        """Whether every limit that was asked for is kept (a drop: proved)."""
        limit = self.budget.max_error
        if limit is not None and measured.error > limit:
            return False
        if self.budget.max_drop is None or measured.comparison is None:
            return True
        return measured.comparison.verdict == "kept"

    def model(self, probes: Sequence[tuple[float, float]]) -> ErrorModel:
        """How sums of sensitivities relate to joint errors on this model."""
        return fit(probes, self.budget.confidence)

    def report(
        self, measured: Measured, predicted: float, refused: Comparison | None, basis: str
    ) -> AccuracyReport:
        """What plan.json says; `refused` is a compression whose drop the data could not prove."""
        comparison = measured.comparison
        asked = self.budget.max_drop is not None or self.budget.max_error is not None
        verdict = "kept" if self.keeps(measured) else "broken"
        is_unprovable = refused is not None and refused.verdict == "unprovable"
        if measured.is_native and is_unprovable:
            verdict = "unprovable"
        return AccuracyReport(
            calibrated=self.prepared.is_calibrated,
            samples=min(samples.valid for samples in self.prepared.samples),
            predicted_error=predicted,
            measured_error=measured.error,
            metric=self.metric,
            baseline=comparison.baseline if comparison else None,
            value=comparison.value if comparison else None,
            drop=comparison.drop if comparison else None,
            drop_high=comparison.drop_high if comparison else None,
            verdict=verdict if asked else "not asked",  # type: ignore[arg-type]
            samples_needed=refused.samples_needed if refused and verdict == "unprovable" else None,
            basis=basis,  # type: ignore[arg-type]
        )


def _name(choice: tuple[str, Format], smoothing: Mapping[str, str]) -> str:
    """What the store calls an operator in a format: smoothed ones by their shifts as well."""
    op, form = choice
    return "|".join([op, form, *smoothing_of(smoothing, {op: form}).values()])


def _over(per_output: Mapping[str, float], skipped: Sequence[str]) -> float:
    kept = (value for name, value in per_output.items() if name not in skipped)
    return _finite(max(kept, default=0.0))


def _finite(error: float) -> float:
    return _HOPELESS if math.isnan(error) else min(error, _HOPELESS)
