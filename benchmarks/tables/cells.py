"""Cells as spreadsheets export them: merged ones, decimal commas, units behind numbers, headings of
two lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from benchmarks.tables import metrics

Record = Mapping[str, str]

_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+,\d+|\d+,(?:\d{1,2}|\d{4,}))")
"""Only with a decimal comma a number."""
_POINT = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+\.\d+|\d*\.\d+(?:e[+-]?\d+)?)", re.IGNORECASE)
"""Only with a decimal point a number; `1.234` may be either."""
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:e[+-]?\d+)?", re.IGNORECASE)
"""Of a cell, before any unit."""
_MEASURED = re.compile(
    r"([+-]?[\d.,]+(?:e[+-]?\d+)?)\s*"
    r"([num\u00b5\u03bc]?s(?:ecs?|econds?)?|[a-z]+(?:/s(?:ec(?:ond)?)?|ps)|[kmgtp](?:fl)?ops)",
    re.IGNORECASE,
)
"""A number and its unit: `12.3 ms`, `450 tok/s`."""


def unmerged(records: Sequence[Record]) -> list[dict[str, str]]:
    """Records whose first cells are empty with those above: exports keep a merged cell's text in
    its first row alone."""
    found: list[dict[str, str]] = []
    for record in records:
        own = next((i for i, cell in enumerate(record.values()) if cell), 0)
        above = found[-1] if found else {}
        names = list(record)[:own]
        found.append({**record, **{name: above.get(name, "") for name in names}})
    return found


def with_points(
    records: Sequence[Record], is_number: Callable[[str], bool]
) -> list[dict[str, str]]:
    """Decimal commas as points, in columns of numbers where some cell is a number only with one and
    none is one only with a point; then points mark thousands in all columns (`1.024`)."""
    names = {name for record in records for name in record if is_number(name)}
    chosen = {name for name in names if _has_commas([r.get(name, "") for r in records])}
    if not chosen:
        return [dict(record) for record in records]
    return [
        {
            name: _NUMBER.sub(_with_point, cell, count=1)
            if name in chosen or _THOUSANDS.fullmatch(cell)
            else cell
            for name, cell in record.items()
        }
        for record in records
    ]


def _with_point(number: re.Match[str]) -> str:
    return number[0].replace(".", "").replace(",", ".")


def _has_commas(cells: Sequence[str]) -> bool:
    cells = [found[0] if (found := _NUMBER.match(cell)) else "" for cell in cells]
    has_point = any(_POINT.fullmatch(c) and not _THOUSANDS.fullmatch(c) for c in cells)
    return not has_point and any(_COMMA.fullmatch(cell) for cell in cells)


def with_unit(metric: str, value: str) -> tuple[str, str]:
    """A metric and a value whose cell states the unit: it joins a metric that names none; the same
    unit twice is one; of two that differ nothing is taken."""
    found = _MEASURED.fullmatch(value.strip())
    if found is None:
        return metric, value
    number, unit = found.groups()
    stated = metrics.latency_scale(metric)
    if stated is not None:
        return (metric, number) if metrics.latency_scale(unit) == stated else (metric, value)
    if metrics.is_rate(metric) and metrics.says_what_it_counts(metric):
        return metric, number
    return f"{metric} ({unit})", number


def joined_headings(upper: Sequence[str], lower: Sequence[str]) -> list[str] | None:
    """Headings of two lines as one, where the upper has gaps that merged cells leave and the lower
    is all words; else None."""
    gaps = [i for i, cell in enumerate(upper) if not cell.strip()]
    is_heading = all(cell.strip() and not _is_number(cell) for cell in lower)
    if not gaps or len(upper) != len(lower) or not is_heading:
        return None
    found, over = [], ""
    for above, below in zip(upper, lower, strict=True):
        over = above.strip() or over
        found.append(f"{over} {below.strip()}".strip())
    return found


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?[\d.,]+%?", cell.strip()) is not None
