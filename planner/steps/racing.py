"""Whole models timed against each other, as the store keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from planner.profiling.forked import Zygote
from planner.profiling.race import Contestant, Race, Result
from planner.profiling.timing import (
    probe_feeds,
    probe_model,
    serial_probe_feeds,
    serial_probe_model,
)
from planner.runtime.tensors import write_tensors
from planner.spec.session import GraphLevel, SessionSettings
from planner.steps.workspace import Workspace

METHOD_VERSION = 5
"""Raised whenever a race would measure something else: older results are then not used."""
_ALONE = "probe alone"
"""The serial probe beside contestants of several threads."""
PERCENTILES = (50.0, 90.0, 95.0, 99.0)
"""Every percentile that a promise may name: kept whichever it is, so that another promise finds
them."""


def race(
    contestants: Sequence[Contestant],
    feeds_path: Path,
    work: Workspace,
    *,
    rounds: int,
    budget_s: float,
    model_size_bytes: int,
) -> dict[str, dict[str, Any]]:
    """Times variants against the first of them, in heats that fit the memory a plan may take.

    Before each turn of a contestant stands one of the reference probe with as many threads; the
    serial one has a turn a round.

    Returns name -> percentiles_us (by percentile, as text), reference_us (the probe's median),
    medians_us (one a round), beside_us (the probe's in the same rounds), alone_us (that of the
    serial one), first_us (those of the first contestant in the same rounds), runs,
    peak_size_bytes.
    """
    first, *rivals = contestants
    size = _rivals_at_once(model_size_bytes)
    heats = [rivals[start : start + size] for start in range(0, len(rivals), size)] or [[]]
    found: dict[str, dict[str, Any]] = {}
    with Zygote() as zygote:
        for heat in heats:
            share_s = budget_s * (len(heat) + 1) / (len(rivals) + len(heats))
            timed = _heat([first, *heat], feeds_path, work, rounds, share_s, zygote)
            for name, result in timed.items():
                found.setdefault(name, result)
    return found


def at_percentile(timed: Mapping[str, Any], percentile: float) -> float:
    """Latency of a raced variant at one of `PERCENTILES`, microseconds."""
    return float(timed["percentiles_us"][f"{percentile:g}"])


def _rivals_at_once(model_size_bytes: int) -> int:
    """How many rivals of the first contestant fit beside it.

    A contestant takes 12 MiB of its own and 1.7 times the model (measured on models of 0.1 to 22
    MB); all of them may take 120 MiB and twice the model, beside what they were forked from.
    """
    mib = 2**20
    allowed = 120 * mib + 2 * model_size_bytes
    return max(int(allowed / (12 * mib + 1.7 * model_size_bytes)) - 1, 1)


def _heat(
    contestants: Sequence[Contestant],
    feeds_path: Path,
    work: Workspace,
    rounds: int,
    budget_s: float,
    zygote: Zygote,
) -> dict[str, dict[str, Any]]:
    probes, feeds = _probes(contestants, work)
    beside = [
        replace(entry, beside=probes[entry.settings.intra_op_threads].name) for entry in contestants
    ]
    own = {probe.name: feeds for probe in probes.values()}
    running = [*beside, *probes.values()]
    if any(entry.settings.intra_op_threads > 1 for entry in contestants):
        alone, own[_ALONE] = _serial_probe(work)
        running.append(alone)
    with Race(running, feeds_path, own, zygote=zygote) as held:
        results = held.run(rounds=rounds, budget_s=budget_s)
        failed = held.failed
    first = results.get(contestants[0].name)
    found: dict[str, dict[str, Any]] = {}
    for contestant in contestants:
        if contestant.name in failed or first is None:
            work.reporter.note(f"{contestant.name}: {failed.get(contestant.name, 'not timed')}")
            continue
        result = results[contestant.name]
        found[contestant.name] = {
            "percentiles_us": {f"{p:g}": result.percentile_us(p) for p in PERCENTILES},
            "reference_us": float(np.median(result.beside_us)),
            "medians_us": [float(median) for median in result.medians_us],
            "beside_us": result.beside_us,
            "alone_us": _alone_us(contestant, results),
            "first_us": [float(median) for median in first.medians_us],
            "runs": result.runs,
            "peak_size_bytes": result.peak_size_bytes,
        }
    return found


def _alone_us(contestant: Contestant, results: Mapping[str, Result]) -> list[float]:
    """Medians of the serial probe, by round; empty where it could not be run."""
    if contestant.settings.intra_op_threads == 1:
        return results[contestant.name].beside_us
    alone = results.get(_ALONE)
    return [float(median) for median in alone.medians_us] if alone is not None else []


def _probes(
    contestants: Sequence[Contestant], work: Workspace
) -> tuple[dict[int, Contestant], Path]:
    """Threads -> the reference probe with that many; and its inputs."""
    model, feeds = work.scratch / "probe.onnx", work.scratch / "probe.npz"
    if not model.exists():
        model.write_bytes(probe_model())
        write_tensors(feeds, probe_feeds())
    numbers = sorted({c.settings.intra_op_threads for c in contestants})
    return {threads: _probe(f"probe-{threads}", threads, model) for threads in numbers}, feeds


def _serial_probe(work: Workspace) -> tuple[Contestant, Path]:
    """What one thread does, and its inputs."""
    model, feeds = work.scratch / "serial-probe.onnx", work.scratch / "serial-probe.npz"
    if not model.exists():
        model.write_bytes(serial_probe_model())
        write_tensors(feeds, serial_probe_feeds())
    return _probe(_ALONE, 1, model), feeds


def _probe(name: str, threads: int, model: Path) -> Contestant:
    settings = SessionSettings(intra_op_threads=threads, graph_level=GraphLevel.DISABLED)
    return Contestant(name, model, settings, "bare")
