"""The `target` section: where the model will run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from planner.spec.base import Document
from planner.spec.quantities import PricePerHour, SizeBytes, refusal

_RANGE = re.compile(r"\s*([0-9]{1,4})\s*(?:\.\.\s*([0-9]{1,4})\s*)?\Z")


class GpuRange(Document):
    """How many GPUs a plan may use, both ends included."""

    minimum: int = Field(ge=1)
    maximum: int = Field(ge=1)


def _read_range(value: Any) -> Any:
    if isinstance(value, GpuRange):
        return value
    match = _RANGE.match(str(value)) if isinstance(value, str | int) else None
    if match is None or isinstance(value, bool):
        raise refusal(f"{value!r} is not a number of GPUs", fix="write a number or a range: 1..4")
    minimum = int(match[1])
    maximum = int(match[2] or match[1])
    if not 1 <= minimum <= maximum:
        raise refusal(f"{value!r} is an empty range of GPUs", fix="1 <= smallest <= largest: 1..4")
    return GpuRange(minimum=minimum, maximum=maximum)


def _write_range(gpus: GpuRange) -> str:
    return f"{gpus.minimum}..{gpus.maximum}"


Gpus = Annotated[
    GpuRange,
    BeforeValidator(_read_range),
    PlainSerializer(_write_range, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^[0-9]+(\.\.[0-9]+)?$"},
            ],
            "examples": ["1..4"],
        }
    ),
]


class Target(Document):
    """Where the model will run; `target: cpu` is short for `{device: cpu}`."""

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    device: str = Field(default="auto", min_length=1)
    """`auto` (this machine's best), `cpu`, `cuda`, the name of a device or a machine
    (`infopt devices` lists them), or a YAML file of one."""
    gpus: Gpus | None = None
    """How many GPUs a plan may use, `1..4`; one where the target has GPUs and nothing is said."""
    memory_size_bytes: SizeBytes | None = Field(
        default=None, gt=0, validation_alias="memory", serialization_alias="memory"
    )
    """Memory per device that a plan may fill: `40GiB`; what the device has when not given."""
    price_per_hour: PricePerHour | None = Field(
        default=None, gt=0, validation_alias="price", serialization_alias="price"
    )
    """What one device costs: `2.10USD/h`; the indicative price of its profile when not given."""
    offload: tuple[Literal["host", "peer"], ...] | None = None
    """Where weights may rest between runs when they do not fit: host memory, a neighbour GPU.
    Host memory where nothing is said and the target has GPUs; `[]`: nowhere."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        return {"device": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _contradicts_nothing(self) -> Self:
        if self.device == "cpu" and self.gpus is not None:
            raise refusal(
                f"gpus {_write_range(self.gpus)} contradicts device cpu",
                fix="drop one of the two",
                key="gpus",
            )
        if self.device == "cpu" and self.offload:
            raise refusal(
                "offload moves weights off a GPU, but the device is cpu",
                fix="drop target.offload",
                key="offload",
            )
        if "peer" in (self.offload or ()) and (self.gpus is None or self.gpus.maximum < 2):
            raise refusal(
                "offload to a peer needs a second GPU",
                fix="allow more GPUs (gpus: 1..2), or drop peer",
                key="offload",
            )
        return self
