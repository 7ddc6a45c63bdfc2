"""Reads a folder of tables: one measured value a row."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain, zip_longest
from pathlib import Path
from typing import TextIO

from benchmarks.tables import headings
from benchmarks.tables.cells import joined_headings, unmerged, with_points
from benchmarks.tables.documents import records_of
from benchmarks.tables.rows import Row
from planner.errors import UsageError

_ENDINGS = (".csv", ".csv.gz", ".tsv", ".jsonl", ".json")
_COLUMNS = [field.name for field in fields(Row) if field.name != "table"]


def read_folder(folder: Path) -> dict[str, list[Row]]:
    """Every `*.csv`, `*.csv.gz`, `*.tsv`, `*.json` and `*.jsonl` of a folder: table name -> rows.

    Raises:
        UsageError: a file is no table, or not readable.
    """
    found: dict[str, list[Row]] = {}
    for path in sorted(each for ending in _ENDINGS for each in folder.glob(f"*{ending}")):
        ending = next(each for each in _ENDINGS if path.name.endswith(each))
        name = path.name.removesuffix(ending)
        try:
            with _open(path) as file:
                records = records_of(file.read()) if "json" in ending else _records(file)
        except (OSError, EOFError, UnicodeDecodeError, csv.Error, ValueError) as error:
            raise UsageError(
                f"{path} is no table: {error}", fix="write CSV or JSON in UTF-8"
            ) from error
        found.setdefault(name, []).extend(_rows(name, records))
    return found


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _records(file: TextIO) -> list[dict[str, str]]:
    """Cells by heading; of the first line, or of the first two where the second continues it."""
    first = next((line for line in file if not _is_comment(line)), "")
    lines = csv.reader(chain([first], file), delimiter=headings.delimiter_of(first))
    head, second = next(lines, []), next(lines, [])
    joined = joined_headings(head, second)
    rest = lines if joined else chain([second] if second else [], lines)
    names = joined or head
    return [dict(zip_longest(names, line[: len(names)], fillvalue="")) for line in rest if line]


def _is_comment(line: str) -> bool:
    """Whether a line above a table's heading is none of it: `# GPUs,model` is."""
    return not line.strip() or (line.startswith("#") and not re.search(r"[,;\t|]", line))


def _rows(name: str, records: Sequence[Mapping[str, str]]) -> Iterator[Row]:
    named = [{headings.name_of(k): c.strip() for k, c in r.items()} for r in records]
    for record in with_points(unmerged(named), headings.is_number):
        for values in headings.rows_of(record, _COLUMNS):
            yield Row(table=name, **values)
