"""How good predictions are: errors, order, intervals, and the questions a planner asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.tables.rows import Row

_CLOSE = 0.1
"""Pairs that differ by less are a matter of taste."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """One row with its prediction, in the row's own unit."""

    row: Row
    measured: float
    low: float
    expected: float
    high: float
    source: str


def score(found: Sequence[Predicted]) -> dict[str, float]:
    """Errors in percent, order, and the share of rows inside their interval."""
    if not found:
        return {}
    measured = np.array([p.measured for p in found])
    expected = np.array([p.expected for p in found])
    errors = 100 * np.abs(expected / measured - 1)
    inside = [p.low <= p.measured <= p.high for p in found]
    return {
        "median_ape": float(np.median(errors)),
        "mean_ape": float(errors.mean()),
        "p90_ape": float(np.quantile(errors, 0.9)),
        "max_ape": float(errors.max()),
        "bias": float(100 * np.median(expected / measured - 1)),
        "rank_correlation": rank_correlation(measured, expected),
        "coverage": float(np.mean(inside)),
    }


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's; 1 where there is nothing to rank."""
    from scipy.stats import rankdata

    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 1.0
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def degrees(found: Iterable[Predicted]) -> dict[str, float]:
    """Of rows equal but for their degrees, how often the faster one is named."""
    return _pairs(found, _but("tp", "pp", "n_gpus", "params"), lambda p: (p.row.tp, p.row.pp))


def _but(*columns: str) -> Callable[[Predicted], tuple[str, ...]]:
    kept = [c for c in Row.__dataclass_fields__ if c not in (*columns, "value")]

    def key(found: Predicted) -> tuple[str, ...]:
        return tuple(getattr(found.row, c) for c in kept)

    return key


def _pairs(
    found: Iterable[Predicted],
    key: Callable[[Predicted], tuple[str, ...]],
    label: Callable[[Predicted], tuple[str, ...]],
) -> dict[str, float]:
    groups: dict[tuple[str, ...], list[Predicted]] = defaultdict(list)
    for item in found:
        groups[key(item)].append(item)
    right = total = 0
    for group in groups.values():
        for i, one in enumerate(group):
            for other in group[i + 1 :]:
                ratio = one.measured / other.measured
                if label(one) == label(other) or abs(ratio - 1) <= _CLOSE:
                    continue
                total += 1
                right += (one.expected < other.expected) == (one.measured < other.measured)
    return {"pairs": total, "right": right / total} if total else {}


def speedups(found: Iterable[Predicted]) -> dict[str, dict[str, float]]:
    """Ratio of a 16-bit dense row to its 2:4 or int8 twin, predicted against measured."""
    same = _but("precision", "sparsity", "notes", "metric")
    groups: dict[tuple[str, ...], list[Predicted]] = defaultdict(list)
    for item in found:
        groups[(*same(item), _version(item))].append(item)
    ratios: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for group in groups.values():
        bases = [p for p in group if _is_half(p.row) and p.row.sparsity in ("none", "")]
        for base in bases[:1]:
            for other in group:
                name = _variant(other.row)
                if name and (name != "2:4" or other.row.precision == base.row.precision):
                    pair = (base.measured / other.measured, base.expected / other.expected)
                    ratios[name].append(pair)
    return {name: _ratio_score(pairs) for name, pairs in sorted(ratios.items())}


def _ratio_score(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    measured, expected = np.array(pairs).T
    errors = 100 * np.abs(expected / measured - 1)
    slower = measured < 1
    return {
        "pairs": len(pairs),
        "median_error": float(np.median(errors)),
        "p90_error": float(np.quantile(errors, 0.9)),
        "slower": int(slower.sum()),
        "slower_named": float(np.mean(expected[slower] < 1)) if slower.any() else 1.0,
        "direction_right": float(np.mean((expected < 1) == slower)),
    }


def _version(item: Predicted) -> str:
    words = item.row.notes.split()
    return " ".join(w for w in words[:2] if any(c.isdigit() for c in w) or w == "TensorRT")


def _is_half(row: Row) -> bool:
    return row.precision.lower() in ("fp16", "bf16", "bfloat16", "float16", "half")


def _variant(row: Row) -> str | None:
    if row.sparsity == "2:4":
        return "2:4"
    names = {"int8": "int8", "sq": "int8", "int8_wo": "int8_wo", "int4_wo": "int4_wo", "fp8": "fp8"}
    return names.get(row.precision.lower())
