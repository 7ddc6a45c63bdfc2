"""Quantities with units as they stand in documents: text outside, unit-named numbers inside.

    class Solver(Document):
        time_limit_s: Seconds = Field(60.0, validation_alias="time_limit", ...)

A document must write `60s`; Python code passes 60.0 to the field that names its unit. The two are
told apart by the validation context `FROM_TEXT`, which the readers of documents pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from planner import units
from planner.errors import UsageError

FROM_TEXT = {"from_text": True}
"""Validation context of values that a person wrote: bare numbers are refused."""

_NUMBER = r"^\s*[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?\s*"


def refusal(what: str, *, fix: str | None = None, key: str | None = None) -> PydanticCustomError:
    """A validation error that carries its fix, and the key below the model that it is about."""
    return PydanticCustomError("infopt", "{what}", {"what": what, "fix": fix, "key": key})


def is_from_text(info: ValidationInfo) -> bool:
    """Whether a person wrote the value (a document, a flag) rather than a program."""
    return isinstance(info.context, dict) and bool(info.context.get("from_text"))


def _reader(parse: Callable[[str], float], kind: str, unit: str) -> Callable[..., float]:
    def read(value: Any, info: ValidationInfo) -> float:
        if isinstance(value, str):
            return _parsed(parse, value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not is_from_text(info):
            return float(value)
        if is_number:
            raise refusal(f"the {kind} {value} has no unit", fix=_with_unit(value, unit))
        raise refusal(f"{value!r} is not a {kind}", fix=f"write a number and a unit: 10{unit}")

    return read


def _with_unit(value: float, unit: str) -> str:
    """0.95 may mean 0.95 % and 95 %: both are offered. Large sizes are bytes."""
    if unit == "GiB" and value >= 1024:
        unit = "B"
    if unit in ("%", "pp") and 0 < value < 1:
        return f"write a unit: {100 * value:.12g}{unit} for the share {value}, else {value}{unit}"
    return f"write a unit: {value}{unit}"


def _parsed(parse: Callable[[str], float], text: str) -> float:
    try:
        return parse(text)
    except UsageError as error:
        raise refusal(error.what, fix=error.fix) from error


def _writer(scale: tuple[tuple[str, float], ...]) -> Callable[[float], str]:
    """Largest unit first; twelve significant digits survive the round trip."""

    def write(value: float) -> str:
        for unit, size in scale:
            if abs(value) >= size:
                return f"{value / size:.12g}{unit}"
        unit, size = scale[-1]
        return f"{value / size:.12g}{unit}"

    return write


def _schema(units_: tuple[str, ...], example: str) -> WithJsonSchema:
    pattern = f"{_NUMBER}({'|'.join(units_)})$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


_DURATIONS = (("s", 1e6), ("ms", 1e3), ("us", 1.0))
_DURATIONS_S = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
_SIZES = (("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0))

Microseconds = Annotated[
    float,
    BeforeValidator(_reader(units.parse_duration_us, "duration", "ms")),
    PlainSerializer(_writer(_DURATIONS), return_type=str, when_used="json"),
    _schema(tuple(units.DURATION_US), "20ms"),
]
"""A duration: `20ms` outside, microseconds inside."""

Seconds = Annotated[
    float,
    BeforeValidator(
        _reader(lambda text: units.parse_duration_us(text) / 1e6, "duration", "s"),
    ),
    PlainSerializer(_writer(_DURATIONS_S), return_type=str, when_used="json"),
    _schema(tuple(units.DURATION_US), "60s"),
]
"""A duration: `60s` outside, seconds inside."""

SizeBytes = Annotated[
    int,
    BeforeValidator(_reader(units.parse_size_bytes, "size", "GiB")),
    PlainSerializer(_writer(_SIZES), return_type=str, when_used="json"),
    _schema(tuple(units.SIZE_BYTES), "40GiB"),
]
"""A size: `40GiB` outside, bytes inside."""

PerSecond = Annotated[
    float,
    BeforeValidator(_reader(units.parse_rate_per_s, "rate", "/s")),
    PlainSerializer(_writer((("/s", 1.0),)), return_type=str, when_used="json"),
    _schema(tuple(units.RATE_PER_S), "100/s"),
]
"""A rate: `100/s` outside, per second inside."""

PricePerHour = Annotated[
    float,
    BeforeValidator(_reader(units.parse_price_per_h, "price", "USD/h")),
    PlainSerializer(_writer((("USD/h", 1.0),)), return_type=str, when_used="json"),
    _schema(tuple(units.PRICE_PER_H), "2.10USD/h"),
]
"""A price: `2.10USD/h` outside, per hour inside."""

Share = Annotated[
    float,
    BeforeValidator(_reader(units.parse_share, "share", "%")),
    PlainSerializer(_writer((("%", 0.01),)), return_type=str, when_used="json"),
    _schema(("%",), "95%"),
]
"""A share of one: `95%` outside, 0.95 inside."""
