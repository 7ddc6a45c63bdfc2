"""States of the machine that whole runs saw, and how models follow them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.cost import tempo
from planner.cost.table import CostTable
from planner.profiling.timing import FAST_SHARE
from planner.steps.analysis import Executable
from planner.steps.bench import Bench
from planner.steps.racing import at_percentile
from planner.steps.whole_runs import Observed

_GAIN = 0.8
"""Kernels that take less than this with more threads than one are worked on together."""
Runs = Sequence[tuple[Observed, Mapping[str, Any]]]
"""What was timed, and its times."""


def beside(timed: Mapping[str, Any]) -> tempo.Beside:
    """Medians of a run's turns and of the probe's before them."""
    return tempo.Beside(timed["medians_us"], timed["beside_us"])


def fast_probes_us(runs: Runs) -> dict[int, float]:
    """Threads -> the reference probe in the fastest state that whole runs saw.

    Pools take turns within the rounds, so these are of one state.
    """
    found: dict[int, list[float]] = {}
    for entry, timed in runs:
        found.setdefault(entry.session.intra_op_threads, []).extend(timed["beside_us"])
    return {threads: float(np.quantile(us, FAST_SHARE)) for threads, us in sorted(found.items())}


def exponents(runs: Runs, together: Mapping[int, float]) -> dict[str, float]:
    """Thread pool -> how what was timed in it follows the probe.

    Args:
        together: number of threads -> share of the time that they work together.
    """
    found: dict[tuple[str, int], list[tempo.Beside]] = {}
    for entry, timed in runs:
        pool = entry.session.pool, entry.session.intra_op_threads
        found.setdefault(pool, []).append(beside(timed))
    return {
        pool: tempo.exponent(pairs, together[threads]) for (pool, threads), pairs in found.items()
    }


def worked_together(
    executables: Sequence[Executable], bench: Bench, tables: Mapping[int, CostTable], threads: int
) -> float:
    """The share of a model's time in kernels that threads work on together."""
    if threads == 1:
        return 1.0
    shared = total = 0.0
    for each in executables:
        keys = (bench.keys(each, count) for count in (1, threads))
        for alone, among in zip(*keys, strict=True):
            alone_us = tables[1].cost(alone).expected_us
            among_us = tables[threads].cost(among).expected_us
            total += among_us
            shared += among_us if among_us < _GAIN * alone_us else 0.0
    return shared / total if total > 0 else 0.0


def tail(runs: Runs, pool: str, percentile: float) -> float:
    """Latency at a percentile / p50 in one pool, the median of its runs."""
    seen = [_relative(timed, percentile) for entry, timed in runs if entry.session.pool == pool]
    return float(np.median(seen))


def _relative(timed: Mapping[str, Any], percentile: float) -> float:
    return max(at_percentile(timed, percentile) / at_percentile(timed, 50.0), 1.0)


def reference_us(native: Sequence[Mapping[str, Mapping[str, Any]]], pool: str) -> float:
    """The reference probe beside the native variant in one pool: the mean over all shapes."""
    return float(np.mean([timed[pool]["reference_us"] for timed in native]))
