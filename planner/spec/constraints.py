"""constraints.yaml: what a deployment must keep, and what may be done to get there.

Written by people, so every quantity carries its unit and every unknown key is refused with the
nearest known one. `spec.resolve` merges it with flags and environment.
"""

from __future__ import annotations

from os.path import realpath
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from planner.spec.base import Document
from planner.spec.budget import AccuracyBudget
from planner.spec.ci import Ci
from planner.spec.compression import Compression
from planner.spec.plan import Promise
from planner.spec.quantities import Seconds, Share, refusal
from planner.spec.slo import Slo
from planner.spec.target import Target
from planner.spec.workload import Workload

ObjectiveName = Literal["cost", "latency", "memory", "energy", "error"]


class Solver(Document):
    """How long and how exactly the optimisation runs."""

    time_limit_s: Seconds = Field(
        default=60.0, gt=0, validation_alias="time_limit", serialization_alias="time_limit"
    )
    """Wall-clock limit of the optimisation itself, measurements not included."""
    gap: Share = Field(default=0.0, ge=0, lt=1)
    """Proved distance from the optimum at which the search may stop."""
    seed: int = Field(default=0, ge=0, strict=True)
    """Seed of every random choice; the same seed gives the same plan."""


class Output(Document):
    """Files to write, relative to this document."""

    plan: Path = Path("plan.json")
    """The plan."""
    html: Path | None = None
    """A report for people: one offline HTML file."""
    junit: Path | None = None
    """JUnit XML for CI systems."""
    annotate: Path | None = None
    """The model with the plan as ONNX's own multi-device annotations; its weights stay put."""
    markdown: Path | None = None
    """Markdown summary for pull requests and job pages."""


def _place(path: Path | str) -> str:
    """Where a path leads, through links."""
    try:
        return realpath(path)
    except ValueError as error:  # a NUL byte, or half a character
        raise refusal(f"{str(path)!r} is no file name: {error}") from None


class Constraints(Document):
    """Everything that decides what infopt plans."""

    schema_version: Literal[1] = 1
    """Version of this document's format."""
    model: Path
    """The ONNX model, relative to this document."""
    workload: tuple[Workload, ...] = Field(default=(Workload(),), min_length=1)
    """Input shapes to serve; one plan and one engine serve all of them."""
    target: Target = Field(default_factory=Target)
    """Where the model will run."""
    slo: Slo = Field(default_factory=Slo)
    """Latency and throughput to keep."""
    accuracy: AccuracyBudget = Field(default_factory=AccuracyBudget)
    """How much the answers may change."""
    compression: Compression = Field(default_factory=Compression)
    """Formats that layers may take."""
    objective: ObjectiveName = "cost"
    """What to minimise among the plans that keep every limit; ties go to latency, then error."""
    solver: Solver = Field(default_factory=Solver)
    """Limits of the optimisation."""
    no_weights: bool = Field(default=False, strict=True)
    """Plan a graph whose external weights are absent: sizes and shapes only."""
    ci: Ci | None = None
    """What fails a CI run."""
    output: Output = Field(default_factory=Output)
    """Files to write."""

    @field_validator("workload")
    @classmethod
    def _has_unique_names(cls, workload: tuple[Workload, ...]) -> tuple[Workload, ...]:
        names = [shapes.name for shapes in workload]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise refusal(
                f"two workload entries are called {repeated!r}", fix="give each its own name"
            )
        return workload

    @field_validator("model", mode="before")
    @classmethod
    def _is_named(cls, model: Any) -> Any:
        if model == "":
            raise refusal("is empty", fix="name the ONNX file: model.onnx")
        try:
            str(model).encode()
        except UnicodeEncodeError:
            raise refusal(
                f"{str(model)!r} is no UTF-8 text, and plans hold nothing else",
                fix="rename the file",
            ) from None
        return model

    @model_validator(mode="after")
    def _overwrites_nothing(self) -> Self:
        accuracy = self.accuracy
        baseline = self.ci.baseline if self.ci else None
        read = (self.model, accuracy.calibration, accuracy.evaluation, baseline)
        taken = {_place(path): "is read by this run" for path in read if path}
        for key in ("plan", "html", "junit", "markdown", "annotate"):
            path = getattr(self.output, key)
            use = taken.setdefault(_place(path), key) if path else key
            if use != key:
                what = use if use.startswith("is ") else f"is the {use} as well"
                raise refusal(f"{str(path)!r} {what}", fix="write elsewhere", key=f"output.{key}")
        return self

    @model_validator(mode="after")
    def _gates_something(self) -> Self:
        if self.ci is None or not any(rule.quantity == "slo" for rule in self.ci.fail_on):
            return self
        if self.slo.latency is None and self.slo.throughput_per_s is None:
            raise refusal(
                "`slo` can fail this run, but no slo is given",
                fix="add slo: {latency: {p99: 20ms}}, or drop `slo` from ci.fail_on",
                key="ci.fail_on",
            )
        return self

    @property
    def promise(self) -> Promise:
        """The limits as the plan records them."""
        latency, drop = self.slo.latency, self.accuracy.max_drop
        return Promise(
            latency_us=latency.limit_us if latency else None,
            latency_percentile=latency.percentile if latency else 99.0,
            throughput_per_s=self.slo.throughput_per_s,
            memory_size_bytes=self.target.memory_size_bytes,
            max_error=self.accuracy.max_error,
            max_drop=drop.amount if drop else None,
            is_drop_relative=drop is not None and drop.is_relative(self.accuracy.metric),
            metric=self.accuracy.metric,
            confidence=self.accuracy.confidence,
        )
