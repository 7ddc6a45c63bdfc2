"""Kernels that benchmarks/gpu_constants.py measured, as observations: benchmarks/results/*.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables.hardware import device_of
from benchmarks.tables.observations import Timed, group_of
from benchmarks.tables.rows import UnpredictableError
from planner.cost.family import family_of
from planner.cost.work import Attention, Flow, Product, Traffic, Work

_FLOWS = {
    "add": (Flow.ELEMENTWISE, 0),
    "gelu": (Flow.ELEMENTWISE, 0),
    "copy": (Flow.COPY, 0),
    "layer_norm": (Flow.NORMALISATION, 1),
    "softmax": (Flow.SOFTMAX, 1),
    "sum_rows": (Flow.REDUCTION, 1),
}
"""Operator -> its flow, and whether it works by rows."""
_ROW_BYTES = 2048.0
"""Of the measured row operators: rows of 1024 16-bit values."""
_STREAMED = "dram"
"""Weights and caches that do not fit the cache, or were kept out of it: as in a whole model."""


def read_results(folder: Path) -> list[Timed]:
    """Every kernel of every file; files that hold none are passed over."""
    found: list[Timed] = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        sections = document.get("sections") if isinstance(document, dict) else None
        if not isinstance(sections, dict) or "gpu" not in document:
            continue
        try:
            device = device_of(document["gpu"]).name
        except UnpredictableError:
            continue
        source = f"infopt on {document['gpu']}, {str(document.get('date_utc', ''))[:10]}"
        for work, latency_us in _kernels(sections):
            found.append(Timed(device, family_of(work), work, latency_us, source, group_of(work)))
    return found


def _kernels(sections: Mapping[str, Any]) -> Iterator[tuple[Work, float]]:
    for p in sections.get("gemm", {}).get("points", ()):
        if p["weights"] == _STREAMED or p["m"] >= 1024:
            yield Product(p["m"], p["n"], p["k"], format=p["format"]), p["us"]
    for p in sections.get("sparse", {}).get("points", ()):
        if p["weights"] == _STREAMED and p["algorithm"] == "searched":
            format = p.get("format", "2:4")
            yield Product(p["m"], p["n"], p["k"], format=format), p["us"]
    attention = sections.get("attention", {})
    yield from _fastest(attention.get("prefill", ()))
    for p in attention.get("decode", ()):
        if p["cache_from"] == _STREAMED:
            heads, length = p["heads"], p["length"]
            yield Attention(p["batch"], heads, heads, p["dim"], 1, length), p["us"]
    for p in sections.get("elementwise", {}).get("points", ()):
        if p["operator"] in _FLOWS:
            flow, is_by_row = _FLOWS[p["operator"]]
            rows = round(p["input_bytes"] / _ROW_BYTES) if is_by_row else 0
            written = p["moved_bytes"] - p["input_bytes"]
            yield Traffic(float(p["input_bytes"]), float(max(written, 0)), flow, rows=rows), p["us"]


def _fastest(points: Any) -> Iterator[tuple[Work, float]]:
    """Of the libraries that computed the same, the faster."""
    best: dict[Work, float] = {}
    for p in points:
        heads, length = p["heads"], p["length"]
        work = Attention(p["batch"], heads, heads, p["dim"], length, length, is_causal=p["causal"])
        best[work] = min(p["us"], best.get(work, float("inf")))
    yield from best.items()
