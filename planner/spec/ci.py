"""The `ci` section: which plan to compare with, and what fails the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from planner.spec.base import Document
from planner.spec.quantities import refusal

Promised = Literal["slo", "accuracy"]
Compared = Literal["latency", "memory", "error", "speedup"]
_RULE = re.compile(r"\s*([a-z]+)\s*(?:>\s*([0-9]*\.?[0-9]+)\s*%\s*)?\Z")


class FailRule(Document):
    """One reason to fail: a broken promise, or a quantity worse than the baseline's."""

    quantity: Promised | Compared
    """`slo` and `accuracy` are promises; the others are compared with the baseline plan."""
    tolerance: float = 0.0
    """Share by which the quantity may be worse than the baseline (0.05 = 5 %)."""

    @property
    def text(self) -> str:
        """As written in YAML."""
        return f"{self.quantity}>{self.tolerance * 100:.12g}%" if self.tolerance else self.quantity

    @property
    def needs_baseline(self) -> bool:
        """Whether it compares with another plan."""
        return self.quantity in get_args(Compared)


def _read_rule(value: Any) -> Any:
    if isinstance(value, FailRule):
        return value
    match = _RULE.match(value) if isinstance(value, str) else None
    known = (*get_args(Promised), *get_args(Compared))
    if match is None or match[1] not in known:
        raise refusal(
            f"{value!r} is no reason to fail",
            fix=f"one of {', '.join(known)}; compared ones with a tolerance: latency>5%",
        )
    if match[2] is not None and match[1] in get_args(Promised):
        raise refusal(f"{match[1]} is kept or broken: it has no tolerance", fix=match[1])
    return FailRule.model_validate({"quantity": match[1], "tolerance": float(match[2] or 0) / 100})


Rule = Annotated[
    FailRule,
    BeforeValidator(_read_rule),
    PlainSerializer(lambda rule: rule.text, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(slo|accuracy|(latency|memory|error|speedup)(\s*>\s*[0-9.]+\s*%)?)$",
            "examples": ["slo", "latency>5%"],
        }
    ),
]


class Ci(Document):
    """What fails a CI run (exit code 7)."""

    baseline: Path | None = None
    """plan.json to compare with, relative to this document; usually the main branch's."""
    fail_on: tuple[Rule, ...] = Field(default=(FailRule(quantity="slo"),), min_length=1)
    """Reasons to fail: `slo`, `accuracy`, `latency>5%`, `memory>10%`, `error>50%`, `speedup>5%`."""

    @model_validator(mode="after")
    def _has_what_it_compares_with(self) -> Self:
        rule = next((rule for rule in self.fail_on if rule.needs_baseline), None)
        if rule is None or self.baseline is not None:
            return self
        raise refusal(
            f"{rule.text!r} compares with a baseline, but none is given",
            fix="add ci.baseline: plans/main.json",
            key="fail_on",
        )
