"""The user's metric of built models on the evaluation data, each measured only once."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from planner.compress.measure import runner
from planner.compress.metrics import MetricResult, evaluate, pooled
from planner.compress.samples import Evaluation
from planner.compress.user_function import function_digest
from planner.compress.workload import Specs, evaluations
from planner.graph.sandbox import MANY_RUNS, Sandbox
from planner.spec.budget import is_function
from planner.spec.constraints import Constraints
from planner.spec.session import SessionSettings
from planner.steps.functions import FOREIGN_BYTES
from planner.steps.prepare import Prepared
from planner.steps.shapes import sizes
from planner.steps.workspace import Workspace, digest, file_digest

_SESSION = SessionSettings()


def metric_of(constraints: Constraints) -> str | None:
    """The metric that was named; a function that evaluates is its own."""
    accuracy = constraints.accuracy
    if accuracy.metric is not None:
        return accuracy.metric
    evaluation = accuracy.evaluation
    return evaluation if evaluation is not None and is_function(evaluation) else None


def measuring(prepared: Prepared) -> Sandbox:
    """Where a model of this size runs many times."""
    loaded = prepared.loaded
    bounds = MANY_RUNS.for_size(loaded.size_bytes)
    return Sandbox("measuring accuracy", str(loaded.path), bounds)


class Metrics:
    """Measures the metric, or finds it in the store."""

    def __init__(
        self, metric: str | None, evaluation: str | None, prepared: Prepared, work: Workspace
    ) -> None:
        """
        Args:
            evaluation: a file of labelled inputs, or a function.
        """
        self._metric, self._evaluation = metric, evaluation
        self._prepared, self._work = prepared, work

    def of(self, name: str, path: Path) -> MetricResult:
        """The metric of a model.

        Args:
            name: a digest of everything that its answers depend on.

        Raises:
            DataError: evaluation data or labels that do not fit the model.
            UsageError: a function that is not there or fails.
        """
        metric = self._metric
        assert metric is not None, "asked for where one was named"
        specs = {shape.name: shape.specs for shape in self._prepared.shapes}
        inputs = [(shape, sorted(sizes(own).items())) for shape, own in specs.items()]
        key = digest("metric", name, metric, *self._data_digests, inputs)

        def compute() -> dict[str, Any]:
            self._work.reporter.stage("evaluate")
            found = self._sandbox().call(_evaluate, path, self._evaluation, metric, specs)
            rows = found.per_sample
            return {
                "value": found.value,
                "rows": None if rows is None else rows.tolist(),
                "dtype": None if rows is None else rows.dtype.str,
            }

        payload = self._work.once("metric", key, compute)
        if payload["rows"] is None:
            return MetricResult(payload["value"], None)
        return MetricResult(payload["value"], np.array(payload["rows"], dtype=payload["dtype"]))

    @cached_property
    def _data_digests(self) -> tuple[str, ...]:
        """Of the evaluation data and of the user's own functions."""
        given = (self._evaluation, self._metric)
        return tuple(self._digest(one) for one in given if one is not None)

    def _digest(self, reference: str) -> str:
        if is_function(reference):
            return self._sandbox().call(function_digest, reference)
        path = Path(reference)
        return file_digest(path) if path.is_file() else reference

    def _sandbox(self) -> Sandbox:
        """Where a user's function runs: what it imports may reserve any amount of memory."""
        ours = measuring(self._prepared)
        functions = (one for one in (self._evaluation, self._metric) if one is not None)
        if not any(is_function(one) for one in functions):
            return ours
        return replace(ours, bounds=replace(ours.bounds, memory_size_bytes=FOREIGN_BYTES))


def _evaluate(path: Path, evaluation: str | None, metric: str, specs: Specs) -> MetricResult:
    labelled: list[Evaluation | None] = [None]
    if evaluation is not None and not is_function(evaluation):
        labelled = [*evaluations(Path(evaluation), specs)]
    run = runner(path, _SESSION)
    return pooled([evaluate(run, each, metric) for each in labelled], metric)
