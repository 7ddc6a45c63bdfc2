"""How far a metric may fall: in points, as a share of the unchanged model's, or in its own unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema

from planner.spec.quantities import is_from_text, refusal

LOSSES = ("mse",)
"""Built-in metrics where less is better and 1 is nothing special: points mean nothing there."""
Unit = Literal["pp", "%", ""]
_TEXT = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(pp|%|)\s*\Z")
_EXAMPLES = "0.5pp (points), or for a loss 2% or a plain number"


@dataclass(frozen=True, slots=True)
class Drop:
    """A limit as it was written."""

    amount: float
    """In the metric's own unit, where 0.5pp and 0.5% are 0.005."""
    unit: Unit = ""

    @property
    def text(self) -> str:
        """As written: `0.5pp`, `2%`, `0.01`."""
        scale = 100.0 if self.unit else 1.0
        return f"{self.amount * scale:.12g}{self.unit}"

    def is_relative(self, metric: str | None) -> bool:
        """Whether the amount is a share of the unchanged model's metric: a loss has no scale of
        its own, so `%` of it can mean nothing else."""
        return self.unit == "%" and metric in LOSSES


def _read(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Drop):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match = _TEXT.match(str(value)) if is_number or isinstance(value, str) else None
    if match is None:
        raise refusal(f"{value!r} is no drop of a metric", fix=_EXAMPLES)
    number, unit = float(match[1]), match[2]
    if number <= 0 or (unit and number > 100):
        allowed = f"between 0 and 100{unit}" if unit else "greater than 0"
        raise refusal(f"the drop {value!r} must be {allowed}", fix=_EXAMPLES)
    if is_number and not is_from_text(info):
        return Drop(number)
    return Drop(number / 100 if unit else number, unit)  # type: ignore[arg-type]


DropLimit = Annotated[
    Drop,
    BeforeValidator(_read),
    PlainSerializer(lambda drop: drop.text, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?\s*(pp|%)?$"},
                {"type": "number", "exclusiveMinimum": 0},
            ],
            "examples": ["0.5pp", "2%", 0.01],
        }
    ),
]
"""`0.5pp`, `2%` or a plain number."""


def refuse_misfit(drop: Drop, metric: str | None, info: ValidationInfo) -> None:
    """A built-in metric is a share (points) or a loss (a share of itself, or its own unit).

    Raises:
        PydanticCustomError: the other kind's unit; names what fits.
    """
    number = f"{drop.amount * 100:.12g}"
    if metric in LOSSES and drop.unit == "pp":
        raise refusal(
            f"{metric} is a loss, not a share: {drop.text} of it means nothing",
            fix=f"{number}% of the unchanged model's {metric}, or a plain number in its own unit",
            key="max_drop",
        )
    is_share = metric is not None and ":" not in metric and metric not in LOSSES
    if is_share and not drop.unit and is_from_text(info):
        raise refusal(
            f"the drop {drop.text} has no unit", fix=f"write points: {number}pp", key="max_drop"
        )
