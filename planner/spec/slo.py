"""The `slo` section: what users of a deployment are promised."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from planner.spec.base import Document
from planner.spec.quantities import Microseconds, PerSecond, refusal


class LatencyLimit(Document):
    """The longest allowed latency at one percentile; `20ms` alone means p99."""

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    p50_us: Microseconds | None = Field(
        default=None, gt=0, validation_alias="p50", serialization_alias="p50"
    )
    """Half of all inferences are at least this fast."""
    p90_us: Microseconds | None = Field(
        default=None, gt=0, validation_alias="p90", serialization_alias="p90"
    )
    """Nine of ten inferences are at least this fast."""
    p95_us: Microseconds | None = Field(
        default=None, gt=0, validation_alias="p95", serialization_alias="p95"
    )
    """95 of 100 inferences are at least this fast."""
    p99_us: Microseconds | None = Field(
        default=None, gt=0, validation_alias="p99", serialization_alias="p99"
    )
    """99 of 100 inferences are at least this fast; what a limit without percentile means."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if isinstance(value, int | float):
            return {"p99": value}
        if not isinstance(value, str):
            return value
        percentile, equals, limit = value.partition("=")
        return {percentile.strip(): limit.strip()} if equals else {"p99": value}

    @model_validator(mode="after")
    def _promises_one_percentile(self) -> Self:
        given = [name for name in ("p50", "p90", "p95", "p99") if getattr(self, f"{name}_us")]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise refusal(
                f"a latency limit has exactly one percentile, found {found}", fix="{p99: 20ms}"
            )
        return self

    @property
    def percentile(self) -> float:
        """The percentile promised: 50, 90, 95 or 99."""
        return next(p for p in (50.0, 90.0, 95.0, 99.0) if getattr(self, f"p{p:.0f}_us"))

    @property
    def limit_us(self) -> float:
        """The longest allowed latency at that percentile, microseconds."""
        return float(getattr(self, f"p{self.percentile:.0f}_us"))


class Slo(Document):
    """What users of the deployment are promised; `slo: 20ms` is short for a p99 latency."""

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    latency: LatencyLimit | None = None
    """Longest allowed latency of one inference, for every workload shape: `{p99: 20ms}`."""
    throughput_per_s: PerSecond | None = Field(
        default=None, gt=0, validation_alias="throughput", serialization_alias="throughput"
    )
    """Inferences per second that one deployment must sustain: `100/s`."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        return {"latency": value} if isinstance(value, str | int | float) else value
