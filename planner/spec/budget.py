"""The `accuracy` section: how much the answers may change, and what shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from planner.spec.base import Document
from planner.spec.drop import DropLimit, refuse_misfit
from planner.spec.quantities import Share, refusal

DEFAULT_MAX_ERROR = 1e-3
"""Budget when a request names none: answers differ by 0.1 % of their energy (NMSE)."""

METRICS = ("top1", "f1", "mse", "cosine", "spearman")
"""Metrics infopt computes itself from labelled data."""

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


def is_function(reference: str) -> bool:
    """Whether `reference` is `module:function` rather than a file."""
    return _FUNCTION.match(reference) is not None


class AccuracyBudget(Document):
    """Limits on the change of the answers; every limit given must hold."""

    metric: str | None = None
    """What the evaluation data measures: top1, f1, mse, cosine, spearman, or the user's own
    `module:function`."""
    max_drop: DropLimit | None = None
    """Largest loss of the metric: `0.5pp`, percentage points of a share (top1, f1, cosine,
    spearman); of mse, `2%` of the unchanged model's or a plain number in its own unit. Needs
    evaluation data."""
    max_error: float | None = Field(default=None, gt=0)
    """Largest NMSE at the model's outputs: energy of the difference / energy of the answer.
    1e-3 when neither limit is given."""
    confidence: Share = Field(default=0.95, gt=0.5, lt=1)
    """Confidence with which the drop must be proved on the evaluation data."""
    calibration: Path | None = None
    """`.npz` of typical inputs, by input name, first axis counting samples. Used for every workload
    shape that it fits; an array called `long/ids` belongs to the shape `long` alone. Synthetic
    inputs are used without it, and the plan says `uncalibrated`."""
    evaluation: str | None = None
    """Labelled `.npz` (inputs and labels, each sample counted once), or the user's own
    `module:function`."""

    @model_validator(mode="before")
    @classmethod
    def _has_a_limit(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        has_limit = any(value.get(key) is not None for key in ("max_drop", "max_error"))
        return value if has_limit else {**value, "max_error": DEFAULT_MAX_ERROR}

    @field_validator("max_error", mode="before")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise refusal(f"{value!r} is not a number", fix="max_error: 1e-3")
        return value

    @field_validator("metric")
    @classmethod
    def _is_known(cls, metric: str | None) -> str | None:
        if metric is None or metric in METRICS or is_function(metric):
            return metric
        raise refusal(
            f"{metric!r} is no metric", fix=f"one of {', '.join(METRICS)}, or module:function"
        )

    @model_validator(mode="after")
    def _can_be_checked(self, info: ValidationInfo) -> Self:
        if self.max_drop is None:
            return self._can_be_measured()
        if self.evaluation is None:
            raise refusal(
                "max_drop cannot be checked without evaluation data",
                fix="add accuracy.evaluation, or bound the outputs instead: max_error: 1e-3",
                key="max_drop",
            )
        if self.metric is None and not is_function(self.evaluation):
            raise refusal(
                "max_drop does not say of which metric",
                fix=f"add accuracy.metric: one of {', '.join(METRICS)}",
                key="max_drop",
            )
        refuse_misfit(self.max_drop, self.metric, info)
        return self

    def _can_be_measured(self) -> Self:
        if self.metric in METRICS and self.evaluation is None:
            raise refusal(
                f"{self.metric} cannot be measured without evaluation data",
                fix="add accuracy.evaluation, or drop accuracy.metric",
                key="metric",
            )
        return self
