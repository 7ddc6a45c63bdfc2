"""States of the machine that whole runs saw, and how models follow them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.cost import tempo
from planner.cost.state import State
from planner.cost.table import ALONE
from planner.profiling.timing import FAST_SHARE
from planner.steps.analysis import Executable
from planner.steps.kernel_prices import KernelPrices
from planner.steps.racing import at_percentile
from planner.steps.whole_runs import Observed

Runs = Sequence[tuple[Observed, Mapping[str, Any]]]
"""What was timed, and its times."""


def beside(timed: Mapping[str, Any]) -> tempo.Beside:
    """Medians of a run's turns and of the probes'."""
    return tempo.Beside(timed["medians_us"], timed["beside_us"], timed["alone_us"])


def fast_states(runs: Runs) -> dict[int, State]:
    """Threads -> the fastest state that whole runs saw, as their probes tell it.

    Pools take turns within the rounds, so these are of one state.
    """
    found: dict[int, list[Mapping[str, Any]]] = {}
    for entry, timed in runs:
        found.setdefault(entry.session.intra_op_threads, []).append(timed)
    return {
        threads: State(_fastest_us(timed, "alone_us"), _fastest_us(timed, "beside_us"))
        for threads, timed in sorted(found.items())
    }


def _fastest_us(timed: Sequence[Mapping[str, Any]], name: str) -> float:
    seen = [us for each in timed for us in each[name]]
    return float(np.quantile(seen, FAST_SHARE)) if seen else 0.0


def feelings(
    runs: Runs, native: Sequence[Executable], prices: KernelPrices
) -> dict[str, tempo.Feeling]:
    """Thread pool -> how what was timed in it follows the machine's state.

    Args:
        native: the native variant, shape by shape: what other variants do together is much the
            same.
    """
    found: dict[tuple[str, int], list[tempo.Beside]] = {}
    for entry, timed in runs:
        pool = entry.session.pool, entry.session.intra_op_threads
        found.setdefault(pool, []).append(beside(timed))
    alone = [pair for (_, threads), pairs in found.items() if threads == ALONE for pair in pairs]
    pace = tempo.pace_felt(alone) if alone else tempo.USUAL_PACE
    usual, shared = (
        {threads: of(native, threads) for threads in prices.numbers_of_threads}
        for of in (prices.usual_late, prices.worked_together)
    )
    return {
        pool: tempo.Feeling(pace, tempo.late_felt(pairs, pace, usual[threads], shared[threads]))
        for (pool, threads), pairs in found.items()
    }


def tail(runs: Runs, pool: str, percentile: float) -> float:
    """Latency at a percentile / p50 in one pool, the median of its runs."""
    seen = [_relative(timed, percentile) for entry, timed in runs if entry.session.pool == pool]
    return float(np.median(seen))


def _relative(timed: Mapping[str, Any], percentile: float) -> float:
    return max(at_percentile(timed, percentile) / at_percentile(timed, 50.0), 1.0)


def usual_state(native: Sequence[Mapping[str, Mapping[str, Any]]], pool: str) -> State:
    """The reference probes beside the native variant in one pool: the mean over all shapes."""
    return State(
        alone_us=float(np.mean([np.median(timed[pool]["alone_us"] or [0.0]) for timed in native])),
        pool_us=float(np.mean([timed[pool]["reference_us"] for timed in native])),
    )
