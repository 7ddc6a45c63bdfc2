"""Over how many devices a row's model is spread: stated, or as engines do by default."""

from __future__ import annotations

import re
from dataclasses import replace

from benchmarks.tables.architectures import Transformer
from benchmarks.tables.hardware import counted_devices
from benchmarks.tables.rows import Row

_DEGREE = r"(?<![a-z]){name}[\s=:_-]*(\d{{1,3}})(?!\d)"
"""A degree that a row's text states: `TP8`, `pp=2`."""
_NAMES = {"tp": "tp", "pp": "pp", "dp": r"(?:dp|data[-_ ]?parallel(?:ism|[-_ ]?size)?)"}

_SPREAD = re.compile(
    r"(?<![a-z])(?:dp[-_ ]?att(?:ention|n)|att(?:ention|n)[-_ ]?dp)(?!\w|\s*=\s*(?:f|0|no|-|\s|$))"
)


def with_degrees(row: Row, model: Transformer) -> Row:
    """The row with its degrees in their columns: from its text where it states them there; else,
    where several devices run a model that generates, those of each copy share each layer; there is
    one copy, unless it says that data is parallel."""
    if row.number("tp", 0) or row.number("pp", 0):
        return row
    text = f"{row.params} {row.notes}".lower()
    named = {name: re.search(_DEGREE.format(name=each), text) for name, each in _NAMES.items()}
    stated = {name: found[1] for name, found in named.items() if found}
    if "tp" in stated or "pp" in stated:
        return replace(row, tp=stated.get("tp", ""), pp=stated.get("pp", ""))
    count = (counted_devices(row) or 1) // max(1, int(stated.get("dp", 1)))
    return row if count <= 1 or model.kind == "encoder" else replace(row, tp=str(count))


def copies(row: Row, metric: str) -> float:
    """How many copies of a model add to a rate: devices over those that share one; where the rate
    is that of each device, one over those that share one."""
    ranks = row.number("tp", 1) * row.number("pp", 1)
    is_each = re.search(r"gpu|(?:/|per_)(?:device|accelerator|chip)", metric) is not None
    return 1 / ranks if is_each else max(1.0, (counted_devices(row) or 1) // ranks)


def spreads_requests(row: Row) -> bool:
    """Whether ranks that share all else attend to requests of their own (attention data parallelism
    of engines that serve DeepSeek's models)."""
    return _SPREAD.search(f"{row.params} {row.notes}".lower()) is not None
