"""Time of each distinct kernel of an engine, at its own addresses, hot: where the time goes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.small.timing import Timer
from planner.runtime.fused.instance import Instance

_CHAIN = 24
"""Launches in a row: enough that graph start and events vanish."""


def stage_table(instance: Instance) -> list[dict[str, Any]]:
    """One row a distinct kernel, the most expensive first.

    `us` is a launch in a chain of equal ones with dependent launch, `plain_us` without; `total_us`
    is the faster of both times the number of launches.
    """
    launches = instance.bucket.launches
    counts = Counter(launch.kernel for launch in launches)
    timer = Timer(instance.driver, instance.driver.stream)
    rows: dict[str, dict[str, Any]] = {}
    for launch in launches:
        if launch.kernel in rows:
            continue
        binary = instance.binary_of(launch)
        taken = [_chain_us(instance, timer, launch, ahead=ahead) for ahead in (True, False)]
        rows[launch.kernel] = {
            "makes": launch.makes[:3],
            "kernel": launch.kernel,
            "count": counts[launch.kernel],
            "programs": launch.programs,
            "threads": binary.threads,
            "registers": binary.registers,
            "shared": binary.shared_size_bytes,
            "stack": binary.stack_size_bytes,
            "us": round(taken[0], 2),
            "plain_us": round(taken[1], 2),
            "total_us": round(min(taken) * counts[launch.kernel], 1),
        }
    return sorted(rows.values(), key=lambda row: -row["total_us"])


def _chain_us(instance: Instance, timer: Timer, launch: Any, *, ahead: bool) -> float:
    def queue() -> None:
        for position in range(_CHAIN):
            instance.queue_one(launch, ahead=ahead and position > 0)

    graph = instance.driver.capture(queue)
    run = lambda: instance.driver.replay(graph)  # noqa: E731
    return timer.device_us(run, cold=False, repeats=10) / _CHAIN
