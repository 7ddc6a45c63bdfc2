"""Reads a folder of tables: one measured value a row."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import TextIO

from benchmarks.tables import headings
from benchmarks.tables.rows import Row
from planner.errors import UsageError

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
    head = file.readline()
    mark = headings.delimiter_of(head)
    records = csv.DictReader(chain([head], file), delimiter=mark)
    records.fieldnames = [headings.name_of(each) for each in records.fieldnames or ()]
    for record in records:
        cells = {key: (text or "").strip() for key, text in record.items() if isinstance(key, str)}
        for values in headings.rows_of(cells, _COLUMNS):
            yield Row(table=name, **values)
