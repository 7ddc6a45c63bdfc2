"""JSON as benchmarks of serving engines save it, as records like a table's.

One document is a run or a list of runs, lines of JSON are one run each. What is nested counts by
its own name (TensorRT-LLM's `trtllm-bench` groups by what a number is of), statistics with their
unit by their mean (`genai-perf`), a list of runs inside takes along what stands around it. Lists of
numbers, one a request, are no values of a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_MEAN = ("avg", "mean")


def records_of(text: str) -> list[dict[str, str]]:
    """Each run's values by name, as text.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        documents = [json.loads(text)]
    except json.JSONDecodeError:
        documents = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [record for each in documents for record in _runs(each)]


def _runs(document: Any) -> Iterator[dict[str, str]]:
    if isinstance(document, list):
        for each in document:
            yield from _runs(each)
    if not isinstance(document, dict):
        return
    inner = [name for name, each in document.items() if _is_runs(each)]
    if len(inner) != 1:
        yield dict(_values(document))
        return
    around = dict(_values({k: v for k, v in document.items() if k != inner[0]}))
    for each in _runs(document[inner[0]]):
        yield {**around, **each}


def _is_runs(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _values(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Values by their own names, those that are nested deeper first, so that outer ones hold."""
    groups = {name: each for name, each in document.items() if isinstance(each, dict)}
    for name, group in groups.items():
        mean = next((group[word] for word in _MEAN if word in group), None)
        if mean is None:
            yield from _values(group)
        else:
            unit = str(group.get("unit", ""))
            yield (f"{name} ({unit})" if unit not in ("", "tokens") else name), str(mean)
    for name, value in document.items():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            yield name, str(value)
        elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
            yield name, value[0]
