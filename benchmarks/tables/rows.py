"""Reads a folder of tables: one measured value a row."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TextIO

from planner.errors import UsageError


class UnpredictableError(Exception):
    """A row that cannot be predicted; the text says why and is what rows are counted by."""


_LEAST = {"seq_out": 0}
"""Column -> its smallest value, where that is not 1."""
_MOST = 10**9


def refuse_empty(*sizes: float) -> None:
    """Sizes of which one is no size.

    Raises:
        UnpredictableError: one is not positive.
    """
    if min(sizes) <= 0:
        raise UnpredictableError("a size is not positive")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value, as text."""

    table: str
    source: str
    model: str
    params: str
    gpu: str
    n_gpus: str
    tp: str
    pp: str
    precision: str
    sparsity: str
    batch: str
    seq_in: str
    seq_out: str
    metric: str
    value: str
    notes: str

    def number(self, column: str, default: int | None = None) -> int:
        """An integer column.

        Raises:
            UnpredictableError: it is empty and there is no default, no number, or none that counts
                anything.
        """
        text = getattr(self, column).strip()
        if not text:
            if default is None:
                raise UnpredictableError(f"no {column}")
            return default
        try:
            value = round(float(text))
        except (ValueError, OverflowError):
            raise UnpredictableError(f"{column} is no number") from None
        if not _LEAST.get(column, 1) <= value <= _MOST:
            raise UnpredictableError(f"{column} is {value}")
        return value

    @property
    def measured(self) -> float:
        """The value.

        Raises:
            UnpredictableError: it is no positive number.
        """
        try:
            value = float(self.value)
        except ValueError:
            raise UnpredictableError("the value is no number") from None
        if not 0 < value < float("inf"):
            raise UnpredictableError("the value is not positive")
        return value

    @property
    def text(self) -> str:
        """Everything that may name software, lower case."""
        return f"{self.source} {self.notes}".lower()


_COLUMNS = [field.name for field in fields(Row) if field.name != "table"]


def read_folder(folder: Path) -> dict[str, list[Row]]:
    """Every `*.csv` and `*.csv.gz` of a folder: table name -> rows.

    Raises:
        UsageError: a file is no table, or not readable.
    """
    found: dict[str, list[Row]] = {}
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")]):
        name = path.name.removesuffix(".gz").removesuffix(".csv")
        try:
            with _open(path) as file:
                found[name] = list(_rows(name, file))
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{path} is no table: {error}", fix="write CSV in UTF-8") from error
    return found


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _rows(name: str, file: TextIO) -> Iterator[Row]:
    for record in csv.DictReader(file):
        values = {column: (record.get(column) or "").strip() for column in _COLUMNS}
        yield Row(table=name, **values)
