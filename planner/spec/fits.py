"""profiles/fits/*.yaml: what was learnt from measurements about kernels and collectives.

Written by `benchmarks/fit.py` from tables of measurements and read by the predictor. Parameters are
relative to the rates in device profiles; what they mean stands beside the model that uses them
(planner/cost).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from planner.spec.base import Document
from planner.spec.problems import explain, path_text
from planner.spec.quantities import FROM_TEXT, refusal
from planner.spec.writing import write_atomically
from planner.spec.yaml_source import KeyPath, load
from planner.spec.yaml_text import to_yaml

_LINE = " "


def _numbers(value: Any) -> Any:
    if isinstance(value, int | float):
        return (float(value),)
    if not isinstance(value, str):
        return value
    try:
        return tuple(float(word) for word in value.split())
    except ValueError:
        raise refusal(f"{value[:40]!r} is no list of numbers") from None


Numbers = Annotated[
    tuple[float, ...],
    BeforeValidator(_numbers),
    PlainSerializer(lambda numbers: _LINE.join(f"{x:.7g}" for x in numbers), return_type=str),
]
"""Numbers in one text: thousands of them as a list each would take seconds to read."""


class Curve(Document):
    """One kernel family in one format on one device."""

    source: str = Field(min_length=1)
    """Whose measurements it was learnt from."""
    points: int = Field(ge=1)
    """How many."""
    median_error: float = Field(ge=0)
    """Median relative error on what a fit had not seen: groups of shapes left out in turn."""
    p90_error: float = Field(ge=0)
    """Its 90th percentile."""
    parameters: dict[str, float]
    """Of the physical model."""
    bands: tuple[Numbers, ...] = Field(min_length=1)
    """`up to microseconds, low, high`: multiples of a prediction that held 95 % of what was unseen;
    the last band holds for everything longer."""
    covers: tuple[Numbers, ...] = ()
    """`from, to` of each coordinate that was measured, log2; empty: nothing is known of it."""
    beyond: tuple[Numbers, ...] = ()
    """Bands outside of what was measured, where the physical model speaks alone."""
    knots: tuple[Numbers, ...] = ()
    """Of the lattice of remainders, log2, one text per coordinate."""
    values: tuple[Numbers, ...] = ()
    """Percent of natural logarithm, added to the physical model's, one text per first knot."""

    @field_validator("bands", "beyond")
    @classmethod
    def _are_intervals(cls, bands: tuple[Numbers, ...]) -> tuple[Numbers, ...]:
        for band in bands:
            if len(band) != 3 or not 0 < band[1] <= 1 <= band[2]:
                raise refusal("a band is `up to, low, high` with low <= 1 <= high", key="bands")
        return bands

    @field_validator("covers")
    @classmethod
    def _are_ranges(cls, covers: tuple[Numbers, ...]) -> tuple[Numbers, ...]:
        if any(len(each) != 2 or each[0] > each[1] for each in covers):
            raise refusal("a range is `from, to`, ascending", key="covers")
        return covers

    @model_validator(mode="after")
    def _fills_its_lattice(self) -> Curve:
        expected = 1
        for axis in self.knots[1:]:
            expected *= len(axis)
        counts = {len(row) for row in self.values}
        rows = len(self.knots[0]) if self.knots else 0
        if len(self.values) != rows or (rows and counts != {expected}):
            raise refusal(f"the lattice needs {rows} rows of {expected} numbers", key="values")
        return self


class FitFile(Document):
    """Everything learnt about one device, or about devices in general."""

    fit_version: Literal[1] = 1
    """Version of this document's format."""
    device: str
    """Name of the device profile; `any` for what holds on average; `links` for collectives."""
    architecture: str | None = None
    """Of the device: another device of the same architecture is the next best source."""
    units: int = Field(default=0, ge=0)
    """Its multiprocessors: with the architecture they tell the chip."""
    curves: dict[str, Curve]
    """`product/bf16`, `prefill/fp16`, `traffic/copy`, `all_reduce/nccl/nvswitch`, ..."""


def read_fits(path: Path) -> FitFile:
    """Reads fits.

    Raises:
        SpecError: not fits; says which line.
    """
    source = load(path)

    def where(at: KeyPath) -> str:
        known = (source.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in source.lines)
        return f"{path}:{next(known, 1)}: {path_text(at)}"

    try:
        return FitFile.model_validate(source.data, context=FROM_TEXT)
    except ValidationError as error:
        raise explain(error, FitFile, where) from error


def write_fits(path: Path, fits: FitFile) -> None:
    """Writes fits atomically.

    Raises:
        UsageError: the folder is missing, read-only or full.
    """
    data = fits.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    write_atomically(path, to_yaml({"fit_version": fits.fit_version, **data}).encode())
