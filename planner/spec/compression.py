"""The `compression` section: which number formats layers may take."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from planner.spec.base import Document
from planner.spec.formats import Format
from planner.spec.quantities import refusal


class Compression(Document):
    """Which number formats layers may take."""

    formats: tuple[Format, ...] | None = Field(default=None, min_length=1)
    """Formats the planner may choose from, besides each layer's own; all that the target runs
    when not given."""
    pin: dict[str, Format] = Field(default_factory=dict)
    """Layer name pattern (`*` and `?` as in file names) -> the format those layers must have. A
    compressed one is kept even where plain ONNX Runtime, which breaks it, is faster."""

    @model_validator(mode="after")
    def _allows_what_it_pins(self) -> Self:
        for pattern, pinned in self.pin.items():
            if self.formats is None or pinned in (*self.formats, Format.FP32):
                continue
            raise refusal(
                f"{pattern!r} is pinned to {pinned.value}, which compression.formats leaves out",
                fix=f"add {pinned.value} to compression.formats",
                key=f"pin.{pattern}",
            )
        return self
