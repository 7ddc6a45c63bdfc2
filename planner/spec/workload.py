"""The `workload` section: input shapes that one plan and one engine serve."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, field_validator

from planner.spec.base import Document
from planner.spec.quantities import refusal

_MOST_ELEMENTS = 2**63 - 1
"""ONNX counts elements in int64."""
Dimension = Annotated[int, Field(ge=0, strict=True)]


class Workload(Document):
    """One set of input shapes that the deployment serves, and how often it occurs."""

    name: str = Field(default="default", min_length=1)
    """Label of these shapes in reports and data files; unique."""
    shapes: dict[str, tuple[Dimension, ...]] = Field(default_factory=dict)
    """Input name -> dimensions; `[]` is a scalar. Only dynamic dimensions need it."""
    weight: float = Field(default=1.0, gt=0)
    """How often these shapes occur, relative to the others."""

    @field_validator("shapes")
    @classmethod
    def _fits_int64(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        for name, shape in shapes.items():
            if math.prod(shape) > _MOST_ELEMENTS:
                raise refusal(f"the shape of {name!r} has more elements than int64 can count")
        return shapes
