"""States of the machine that whole runs saw, and how models follow them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.cost import tempo
from planner.cost.meeting import met_us
from planner.cost.state import Sharing, State, sharing_of
from planner.cost.table import CostTable
from planner.profiling.store import KernelTime
from planner.profiling.timing import FAST_SHARE
from planner.spec.session import SessionSettings
from planner.steps.analysis import Executable
from planner.steps.bench import Bench
from planner.steps.racing import at_percentile
from planner.steps.whole_runs import Observed

_GAIN = 0.8
"""Kernels that take less than this with more threads than one are worked on together."""
_ALIKE = 0.08
"""What one thread does is timed alike in two pools: 95 of 100 kernels within this."""
_MEETING_US, _CROSSING_US_PER_KIB = 2.3, 0.1
"""What a meeting costs, and what one thread reads of what another has written or held in its cache,
where the probe takes twice as long for threads that hear of each other late. Whole runs of nine
models in both states: 0.03 to 0.3 us a KiB (AMD EPYC, 2026-11-28)."""
_MOST_LATE = 0.9
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
    runs: Runs, native: Sequence[Executable], bench: Bench, tables: Mapping[int, CostTable]
) -> dict[str, tempo.Feeling]:
    """Thread pool -> how what was timed in it follows the machine's state.

    Args:
        native: the native variant, shape by shape: what other variants do together is much the
            same.
        tables: prices by the number of threads.
    """
    found: dict[tuple[str, int], list[tempo.Beside]] = {}
    for entry, timed in runs:
        pool = entry.session.pool, entry.session.intra_op_threads
        found.setdefault(pool, []).append(beside(timed))
    alone = [pair for (_, threads), pairs in found.items() if threads == 1 for pair in pairs]
    pace = tempo.pace_felt(alone) if alone else tempo.USUAL_PACE
    usual = {threads: usual_late(native, bench, tables, threads) for threads in tables}
    shared = {threads: worked_together(native, bench, tables, threads) for threads in tables}
    return {
        pool: tempo.Feeling(pace, tempo.late_felt(pairs, pace, usual[threads], shared[threads]))
        for (pool, threads), pairs in found.items()
    }


def usual_late(
    executables: Sequence[Executable], bench: Bench, tables: Mapping[int, CostTable], threads: int
) -> float:
    """How a model follows threads that meet late, by what its kernels are: an exponent."""
    own_us = late_us = 0.0
    for each in executables:
        for kernel, key in zip(
            bench.analysis(each).kernels, bench.keys(each, threads), strict=True
        ):
            own_us += tables[threads].cost(key).expected_us
            meetings = tables[threads].meetings(key)
            late_us += meetings * _MEETING_US
            if meetings:
                crossed_bytes = kernel.output_size_bytes + kernel.read_size_bytes
                late_us += crossed_bytes / 1024 * _CROSSING_US_PER_KIB
    return min(float(np.log2(1.0 + late_us / own_us)), _MOST_LATE) if own_us > 0 else 0.0


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


def lost_where_met_us(
    executable: Executable,
    bench: Bench,
    tables: Mapping[int, CostTable],
    session: SessionSettings,
) -> float:
    """What the threads of a pool are expected to lose where they meet."""
    one, all_ = tables[1], tables[session.intra_op_threads]
    keys = (bench.keys(executable, count) for count in (1, session.intra_op_threads))
    return sum(
        met_us(
            one.cost(alone).expected_us, all_.cost(among).expected_us, is_spinning=session.spinning
        )
        for alone, among in zip(*keys, strict=True)
        if all_.meetings(among)
    )


def sharings(executables: Sequence[Executable], bench: Bench, threads: int) -> dict[str, Sharing]:
    """Key of a kernel's time with so many threads -> how they share it."""
    found: dict[str, Sharing] = {}
    for each in executables if threads > 1 else ():
        kernels = bench.analysis(each).kernels
        keys = (bench.keys(each, count) for count in (1, threads))
        for kernel, alone, among in zip(kernels, *keys, strict=True):
            if alone != among:  # short ones have but one time: of one thread
                is_alike = _are_alike(
                    bench.work.store.kernel(alone), bench.work.store.kernel(among)
                )
                found[among] = sharing_of(kernel.op_type, is_alike=is_alike)
    return found


def _are_alike(one: KernelTime | None, several: KernelTime | None) -> bool:
    """Whether a kernel takes with several threads what it takes with one, on cores as fast."""
    if one is None or several is None:
        return False
    known = one.alone_us > 0 and several.alone_us > 0
    pace = several.alone_us / one.alone_us if known else 1.0
    return abs(several.latency_us / (one.latency_us * pace) - 1.0) <= _ALIKE


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
